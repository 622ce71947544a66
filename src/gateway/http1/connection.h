// One HTTP/1.x connection: reads requests in order, hands them to the handler, and sends the answers.
//
// Owner: its own coroutine run(), by shared_ptr; wire::Core lists it. Reactor thread only. Buffers: `in_` holds the
// head and whatever follows it (16 KiB, up to 128 KiB for one large head and small body); `body_` holds a body over 64
// KiB or a decoded one, growing with the bytes received. Views into both stay valid until the answer is queued.
// Pipelined answers gather in `out_` and leave in one send, at the latest when the reactor gets round to it. Any I/O
// error closes the connection; a deadline is `deadline_`, which the server's sweep compares. What `body_` allocates is
// counted in Core::buffered_bytes, which has a limit.
#pragma once
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "gateway/http.h"
#include "gateway/http1/body_decoder.h"
#include "gateway/http1/head_parser.h"
#include "gateway/wire/buffer.h"
#include "gateway/wire/core.h"
#include "gateway/wire/stream.h"

namespace mayfly::http1 {

using wire::Buffer;
using wire::Core;
using wire::error_code;

std::string_view reason_phrase(int status);

class Connection final : public std::enable_shared_from_this<Connection>,
                         public wire::Member,
                         private BodyReader,
                         private ResponseWriter {
 public:
  // `first`: what was read of the stream already. `head_deadline`: of the first head, if it has begun; else 0.
  Connection(std::shared_ptr<Core> core, wire::Stream stream, Buffer first, std::uint64_t head_deadline);
  ~Connection() override;
  static Task<Ok> run(std::shared_ptr<Connection> self);

  // For the listener: called between two steps of run().
  void expire_if_due(std::uint64_t now) override;
  void drain() override;
  bool handling_since_before(std::uint64_t ns) const override { return handling_since_ < ns && !cancel_.fired(); }
  int native_handle() override { return stream_.native_handle(); }
  void client_gone() override;
  void abort() override;

 private:
  enum class BodyEnd : std::uint8_t { kRead, kAnswered, kGone };

  // connection.cc: requests and answers. False: the connection ends.
  Task<bool> read_head();
  Status make_space_for_body();
  Task<bool> serve_request();
  Task<BodyEnd> read_body(const BodyPolicy& policy, void* cookie, Request& request);
  std::uint64_t unread_body();
  Task<bool> refuse(const Error& error, std::string_view headers = {});
  Task<bool> answer_error(const Error& error);
  Task<bool> answer(bool keep);
  Task<bool> begin(const Response& response) override;
  Task<bool> write(std::string_view piece) override;
  bool begun() const override { return begun_; }
  Task<bool> end_pieces(bool keep);
  void append_answer_head(bool keep, bool bodiless);
  void set_error(const Error& error);
  Task<bool> discard(std::uint64_t n);

  // connection_io.cc: bytes.
  Task<Result<std::span<const char>>> next() override;
  Task<Result<std::string_view>> read_identity_body(std::uint64_t length);
  Task<Result<std::string_view>> read_decoded_body(std::uint64_t max_bytes);
  Task<Result<std::size_t>> read_some(std::span<char> into, std::chrono::milliseconds timeout);
  Task<Result<std::size_t>> fill();
  Task<bool> send_continue();
  Task<bool> send(std::string_view body);
  Task<bool> wait_writable();
  bool send_now(std::string_view& body);
  void post_flush();
  Task<Ok> linger();
  void trim();

  std::shared_ptr<Core> core_;
  wire::Stream stream_;
  wire::Place place_;
  HeadParser parser_;
  BodyDecoder decoder_;
  Buffer in_;
  Buffer body_;
  std::uint64_t caller_ = 0;    // whose budget body_ is in
  std::size_t body_start_ = 0;  // offset in in_ after the head of the current request
  std::string out_;             // answers, and heads of answers, not sent yet
  Response response_;
  std::uint64_t deadline_ = UINT64_MAX;
  std::uint64_t head_deadline_ = 0;
  std::uint64_t body_deadline_ = UINT64_MAX;  // of the whole body
  CancelSignal cancel_;
  std::uint64_t handling_since_ = UINT64_MAX;  // CLOCK_MONOTONIC; UINT64_MAX: no handler runs
  bool head_known_ = false;                    // parser_.head() is of the request that is answered
  bool begun_ = false;                         // the answer is sent in pieces
  bool chunked_ = false;                       // … as chunks
  bool idle_ = true;                           // waiting for the first byte of a request
  bool closing_ = false;
  bool expired_ = false;  // the deadline passed during the current wait
  bool broken_ = false;   // sending failed or the socket is closed
  bool sending_ = false;  // run() is within a send
  bool flush_posted_ = false;
  bool want_continue_ = false;
  bool answered_ = false;  // linger before closing
};

}  // namespace mayfly::http1
