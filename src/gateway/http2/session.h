// One HTTP/2 connection without its socket: bytes go in by feed(), bytes come out by pump(), and in between nghttp2
// speaks the protocol while each request runs as a Stream with its own coroutine.
//
// Owner: its Connection and each running handler, by shared_ptr: a handler may outlive the connection. Reactor thread
// only. Whatever makes output outside of feed() calls the listener given to on_output(), once until the next pump(), so
// that many answers leave in one send. Memory: 16 MiB of body bytes in flight for streaming handlers a connection
// (kConnectionWindow), 1 MiB a stream; whole bodies are bounded by the budget of all bodies (wire::Core), in which the
// memory that a connection keeps from one large body to the next counts too.
// Abuse ends the connection with GOAWAY ENHANCE_YOUR_CALM and one log line that names the limit.
#pragma once
#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/http2/guard.h"
#include "gateway/http2/stream.h"
#include "gateway/wire/core.h"

namespace mayfly::http2 {

inline constexpr std::int32_t kConnectionWindow = 16 * 1024 * 1024;
inline constexpr std::int32_t kStreamWindow = 1024 * 1024;

class Session final : public std::enable_shared_from_this<Session> {
 public:
  // `peer`: whose budget the bodies of callers without a key are in.
  Session(std::shared_ptr<wire::Core> core, bool loopback, std::uint64_t peer = 0);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Bytes of the client, its preface first. Starts the handlers of the requests that are complete.
  void feed(std::string_view bytes);
  // Appends what is to be sent to `out` until that holds `limit` bytes.
  void pump(std::string& out, std::size_t limit);
  // Nothing more is to be read or sent.
  bool over() const;
  void on_output(void (*listener)(void*), void* argument) {
    listener_ = listener;
    listener_argument_ = argument;
  }
  // GOAWAY that announces the end, then, when the client has seen it or at the next sweep, the one that sets it.
  void drain();
  // The connection is gone: handlers are told, bodies that will never be whole are given up.
  void close();
  void expire_if_due(std::uint64_t now);
  std::size_t streams() const { return streams_.size(); }

 private:
  friend class Stream;
  friend struct Callbacks;
  static constexpr std::size_t kKeptStreams = 32;
  static constexpr std::size_t kSkippedRanges = 8;  // remembered; clients count without gaps
  static constexpr std::size_t kMaxSpareBytes = 16 * 1024 * 1024;

  Stream* open_stream(std::int32_t id);
  void release_if_done(Stream* stream);
  bool lend_body(wire::Buffer& body, std::size_t capacity);
  void keep_body(wire::Buffer& body);
  void output();
  void count(Frame kind);
  bool is_skipped(std::int32_t id);
  // Ends the connection because of `limit`; says so in the log.
  void refuse_connection(const char* limit);
  void final_goaway();
  bool on_frame_head(const nghttp2_frame_hd& head);
  int on_frame(const nghttp2_frame& frame);
  void on_sent(const nghttp2_frame& frame);
  void on_stream_close(Stream* stream);

  const std::shared_ptr<wire::Core> core_;
  nghttp2_session* h2_ = nullptr;
  const bool loopback_;
  const std::uint64_t peer_;
  Guard guard_;
  std::vector<std::unique_ptr<Stream>> streams_;  // open ones, and closed ones whose handler runs
  std::vector<std::unique_ptr<Stream>> kept_;     // for reuse
  std::vector<Stream*> ready_;                    // complete requests that are not running yet
  wire::Buffer spare_body_;  // of the last large body, for the next one: new memory costs a fault for each page
  std::string* pump_out_ = nullptr;
  std::size_t pump_limit_ = 0;
  std::string fields_;                   // scratch of answer heads: names in lower case
  std::vector<nghttp2_nv> field_views_;  // … and their fields
  void (*listener_)(void*) = nullptr;
  void* listener_argument_ = nullptr;
  std::uint64_t idle_since_ = 0;                                // CLOCK_MONOTONIC, coarse; no stream since then
  std::int32_t highest_id_ = -1;                                // of the client's streams
  std::vector<std::pair<std::int32_t, std::int32_t>> skipped_;  // ranges of ids below it that were left out
  std::uint32_t continuations_ = 0;                             // of the header block that arrives
  bool feeding_ = false;
  bool output_told_ = false;
  bool draining_ = false;
  bool final_sent_ = false;
  bool refused_ = false;
  bool failed_ = false;  // what the client sent can't be read on
  bool closed_ = false;
};

}  // namespace mayfly::http2
