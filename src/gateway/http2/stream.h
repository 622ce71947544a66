// One request of an HTTP/2 connection: its head in stable memory, its body, its handler's coroutine and its answer.
//
// Owner: its Session, which reuses it. Lives while nghttp2 knows the stream or its handler runs, whichever is longer.
// Reactor thread only. A body for a handler that wants it whole is taken at once, against the budget of all bodies; one
// that is read in pieces waits in body_, and the client's window opens only as it is read. Deadlines are compared by
// the sweep.
#pragma once
#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/one_shot.h"
#include "gateway/http.h"
#include "gateway/wire/buffer.h"
#include "gateway/wire/core.h"
#include "gateway/wire/inflater.h"

namespace mayfly::http2 {

class Session;

class Stream final : private BodyReader, private ResponseWriter {
 public:
  static constexpr std::size_t kMaxHeaders = 100;        // as HTTP/1
  static constexpr std::size_t kPieceBytes = 64 * 1024;  // of an answer in pieces, not sent yet, that stop its writer

  explicit Stream(Session& session) : session_(session) {}
  ~Stream() override;

  // stream.cc: the request.
  void open(std::int32_t id);
  bool add_field(std::string_view name, std::string_view value);  // false: reset it, there is no end of them
  void on_head(bool has_body);
  void on_data(std::string_view bytes);
  void on_end();
  void on_close();
  void expire_if_due(std::uint64_t now);
  static Task<Ok> run(std::shared_ptr<Session> session, Stream* self);
  bool done() const { return closed_ && !running_; }
  bool head_is_late(std::uint64_t now) const;
  void reset();  // for the next request; keeps memory

  // answer.cc: the answer.
  ssize_t next_data(std::size_t room, std::uint32_t& flags);
  std::string_view data(std::size_t n) const;
  void data_sent(std::size_t n);
  bool remote_open() const { return !remote_ended_; }

 private:
  friend class Session;
  friend struct Callbacks;
  enum class State : std::uint8_t { kHead, kBody, kReady, kHandling, kAnswering };
  struct Span {
    std::uint32_t name, name_size, value, value_size;  // in text_
  };

  Error read_head();
  Error read_field(std::string_view name, std::string_view value);
  void start();
  void give_up();
  void drop_body();
  void fail(const Error& error);  // the body will not be whole: answers
  Status make_room();
  Status append(std::string_view bytes);
  Status append_decoded(std::string_view bytes);
  Status start_inflater();
  Result<std::span<const char>> take_piece();
  void open_window(std::size_t n);
  void send_continue();
  void answer();
  void answer_error(const Error& error, std::string_view headers = {});
  void finish();
  void resume();
  void submit_head(const Response& response, std::optional<std::size_t> length, std::string_view trailers,
                   bool body_follows);
  void add_lines(std::string_view lines);
  void submit_trailers();
  bool bodiless() const;
  void wake(OneShot<Ok>*& waiter);

  Task<Result<std::span<const char>>> next() override;
  Task<bool> begin(const Response& response) override;
  Task<bool> write(std::string_view piece) override;
  bool begun() const override { return begun_; }

  Session& session_;
  std::int32_t id_ = 0;
  std::size_t index_ = 0;  // in Session::streams_
  State state_ = State::kHead;
  std::string text_;  // names and values of the head, as views
  std::vector<Span> spans_;
  std::size_t head_bytes_ = 0;  // as SETTINGS_MAX_HEADER_LIST_SIZE counts
  bool too_many_ = false;       // fields
  RequestHead head_;
  Request request_;
  void* cookie_ = nullptr;
  std::uint64_t max_bytes_ = 0;
  std::uint64_t caller_ = 0;             // whose budget the body is in
  std::uint64_t deadline_ = UINT64_MAX;  // of the whole body
  std::uint64_t due_ = UINT64_MAX;       // of the next bytes of the body
  bool may_pause_ = false;
  bool streaming_ = false;
  bool want_continue_ = false;
  bool remote_ended_ = false;
  wire::Buffer body_;     // whole and decoded, or raw and unread
  wire::Buffer reading_;  // raw, lent to the handler by next(); what arrives meanwhile must not move it
  std::uint64_t raw_bytes_ = 0;
  std::uint64_t decoded_bytes_ = 0;
  std::unique_ptr<wire::Inflater> inflater_;
  std::optional<Error> read_error_;

  Response response_;
  CancelSignal cancel_;
  wire::Buffer out_;      // pieces
  std::size_t sent_ = 0;  // of response_.body
  bool begun_ = false;
  bool ended_ = false;     // no more pieces come
  bool deferred_ = false;  // nghttp2 waits for a piece
  bool head_request_ = false;
  bool submitted_ = false;
  bool running_ = false;
  bool closed_ = false;            // nghttp2 does not know it any more
  std::uint64_t progress_ns_ = 0;  // of the answer, coarse
  OneShot<Ok>* reader_ = nullptr;
  OneShot<Ok>* writer_ = nullptr;
};

}  // namespace mayfly::http2
