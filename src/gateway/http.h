// HTTP as the handlers see it, whatever the wire (HTTP/1.1 or HTTP/2).
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/async.h"
#include "async/cancel.h"
#include "base/result.h"

namespace mayfly {

enum class Method : std::uint8_t { kGet, kHead, kPost, kPut, kDelete, kOptions, kPatch, kOther };

struct Header {
  std::string_view name, value;
};  // name as sent; compare with iequals

struct RequestHead {
  Method method = Method::kGet;
  std::string_view method_text;
  std::string_view target;  // as sent
  std::string_view path;    // without the query, not percent-decoded
  std::string_view query;   // after '?', may be empty
  std::vector<Header> headers;
  std::optional<std::uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;
  bool expect_continue = false;
  enum class Encoding : std::uint8_t { kIdentity, kGzip, kDeflate, kUnsupported } encoding = Encoding::kIdentity;
  std::string_view header(std::string_view name) const;  // "" if absent; case-insensitive
};

// Streaming access to a body (uploads). Chunks are decoded (chunked, gzip) and bounded by the policy's limit.
class BodyReader {
 public:
  virtual ~BodyReader() = default;
  // Next piece, valid until the next call; empty at the end. Errors: payload_too_large, body_timeout,
  // deadline_exceeded, malformed_body.
  virtual Task<Result<std::span<const char>>> next() = 0;
};

struct Response {
  int status = 200;
  std::string_view content_type = "application/json";  // static storage
  std::string headers;                                 // extra complete lines, "Name: value\r\n" each
  std::string body;      // reused between requests of a connection: clear() keeps capacity
  std::string trailers;  // lines as in `headers`; sent after the body by HTTP/2, dropped by HTTP/1
  bool close = false;
  void reset() {
    status = 200;
    content_type = "application/json";
    headers.clear();
    body.clear();
    trailers.clear();
    close = false;
  }
};

// An answer in pieces, for handlers that do not have it whole (event streams, gRPC streams). After begin() the answer
// ends when handle() returns: with the trailers of its Response, whose other fields no longer count.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  // Sends the head now: status, content type and headers of `response`. False: the client is gone. Once.
  virtual Task<bool> begin(const Response& response) = 0;
  // Sends a piece, and waits while a slow reader has not taken what was sent before. False: the client is gone.
  virtual Task<bool> write(std::string_view piece) = 0;
  virtual bool begun() const = 0;
};

struct Request {
  const RequestHead* head = nullptr;
  std::string_view body;             // whole, decoded; empty when streaming
  BodyReader* reader = nullptr;      // set when the policy asked for streaming
  ResponseWriter* writer = nullptr;  // always set
  CancelSignal* cancel = nullptr;    // always set; fires when the client is gone or has cancelled
  std::uint64_t received_ns = 0;     // CLOCK_MONOTONIC, when the head was complete
  bool loopback = true;              // the peer's address is a loopback address
  std::uint64_t peer = 0;            // the same for requests from one address: wire::Stream::peer
  std::uint8_t http_major = 1;       // 1 or 2
};

// What a handler wants of a body, decided when the head is parsed.
struct BodyPolicy {
  std::uint64_t max_bytes = 0;
  bool streaming = false;
  bool may_pause = false;    // HTTP/2, streaming: the client may send nothing for long (a gRPC stream): no body_timeout
  std::uint64_t caller = 0;  // whose budget the body is in: the number of a key; 0: that of the peer's address
  std::uint64_t deadline_ns = 0;  // CLOCK_MONOTONIC: the body is whole by then, or deadline_exceeded; 0: none
  std::optional<Error> refuse;    // answer this at once, without reading the body (401, 404, 413 …)
  std::string refuse_headers;     // of that answer: extra complete lines, as in Response
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // A connection was accepted; nothing of it has been read.
  virtual void on_connect(std::uint64_t peer) { static_cast<void>(peer); }
  // Called when the head is complete, before the body is read: routing, authentication, and the early wake happen here.
  // `cookie` is handed to handle() of the same request (a per-request route decision); on_abort is called instead if
  // the body never arrives whole.
  virtual BodyPolicy on_head(const Request& request, void*& cookie) = 0;
  virtual Task<Ok> handle(const Request& request, void* cookie, Response& response) = 0;
  virtual void on_abort(void* cookie) = 0;
  // Renders an error into a response, in the form of the dialect that `head` belongs to; null: the head was malformed.
  virtual void render_error(const Error& error, const RequestHead* head, Response& response) = 0;
};

bool iequals(std::string_view a, std::string_view b);  // ASCII

}  // namespace mayfly
