// Incremental parser of HTTP/1.x request heads (RFC 9112), zero copy: everything in head() points into the caller's
// buffer.
//
// scan() is called with all bytes received since the head began, as often as bytes arrive; it remembers how far it
// looked. When it says true, parse() with the same bytes (the buffer may have moved) fills head(). Owner: one
// connection; no I/O. Strict where requests are smuggled: a line ends with CRLF only; no folded lines, no blank before
// a colon, no control characters, Content-Length or Transfer-Encoding but not both, one Host, no transfer coding but
// chunked. Fails with malformed_request, head_too_large, unsupported_http_version, unsupported_transfer_encoding; the
// connection can't be used for another request after any of these.
#pragma once
#include <cstddef>
#include <string_view>

#include "gateway/http.h"

namespace mayfly::http1 {

class HeadParser {
 public:
  static constexpr std::size_t kMaxBytes = 64 * 1024;
  static constexpr std::size_t kMaxHeaders = 100;

  explicit HeadParser(std::size_t max_bytes = kMaxBytes) : max_bytes_(max_bytes) {}
  // Forgets the head, for the next one; keeps memory.
  void reset();
  // True when `bytes` holds a whole head.
  Result<bool> scan(std::string_view bytes);
  // After scan() said true. May be repeated when the buffer has moved.
  Status parse(std::string_view bytes);

  std::size_t head_size() const { return end_; }  // bytes, with the empty line; after scan() said true
  const RequestHead& head() const { return head_; }
  bool http_1_0() const { return minor_ == 0; }

 private:
  Status parse_request_line(std::string_view line);
  Status parse_version(std::string_view version);
  Status parse_target();
  Status parse_field(std::string_view line);
  Status known_field(std::string_view name, std::string_view value);
  Status on_content_length(std::string_view value);
  Status on_transfer_encoding(std::string_view value);
  Status on_host(std::string_view value);
  void on_connection(std::string_view value);
  Status check_framing();

  std::size_t max_bytes_;
  std::size_t start_ = 0;    // after the empty lines that may precede a request
  std::size_t line_ = 0;     // start of the line being scanned
  std::size_t scanned_ = 0;  // bytes looked at
  std::size_t end_ = 0;
  int minor_ = 1;
  bool has_host_ = false;
  bool has_transfer_encoding_ = false;
  bool says_close_ = false;
  bool says_keep_alive_ = false;
  RequestHead head_;
};

}  // namespace mayfly::http1
