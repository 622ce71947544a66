// A server session and nghttp2's own client session in one thread, joined by memory instead of a socket; and a handler
// with paths for what the tests ask. For tests and the fuzz target.
#pragma once
#include <nghttp2/nghttp2.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/http2/session.h"

namespace mayfly::http2 {

class TestHandler final : public HttpHandler {
 public:
  explicit TestHandler(Executor ex) : gate(ex, TimePoint::max()) {}
  BodyPolicy on_head(const Request& request, void*& cookie) override {
    ++heads;
    cookie = this;
    BodyPolicy policy;
    policy.max_bytes = max_bytes;
    const std::string_view path = request.head->path;
    policy.streaming = path == "/stream" || path == "/hold";
    policy.may_pause = request.head->query == "pause";
    if (request.head->query.starts_with("caller=")) policy.caller = static_cast<std::uint64_t>(request.head->query[7]);
    if (request.head->query == "due") policy.deadline_ns = request.received_ns + 1'000'000;
    if (path == "/denied") {
      cookie = nullptr;
      ++denied;
      policy.refuse = Error{Code::kUnauthenticated, "no_key", "denied"};
      policy.refuse_headers = "X-Why: key\r\n";
    }
    return policy;
  }
  Task<Ok> handle(const Request& request, void* cookie, Response& response) override {
    MAYFLY_CHECK(cookie == this && request.http_major == 2);
    const std::string_view path = request.head->path;
    ++handled;
    if (path == "/deaf") {
      ++waiting;
      static_cast<void>(co_await gate.async_wait(use_result));
      --waiting;
    }
    if (path == "/wait" || path == "/hold") {
      ++waiting;
      const CancelScope scope(request.cancel, [](void* h) { static_cast<TestHandler*>(h)->gate.cancel(); }, this);
      static_cast<void>(co_await gate.async_wait(use_result));
      --waiting;
      cancelled += request.cancel->fired() ? 1 : 0;
    }
    response.content_type = path == "/grpc" || path == "/grpc-error" ? "application/grpc" : "text/plain";
    response.headers = "X-Extra: 1\r\nConnection: close\r\n";
    if (path == "/pieces") {
      co_await request.writer->begin(response);
      for (int i = 0; i < pieces; ++i) {
        if (!co_await request.writer->write(piece)) break;
        ++written;
      }
      response.trailers = "Grpc-Status: 0\r\n";
      co_return Ok{};
    }
    if (path == "/grpc") response.trailers = "Grpc-Status: 0\r\n";
    if (path == "/grpc-error") {
      response.trailers = "Grpc-Status: 5\r\n";
      co_return Ok{};
    }
    if (path == "/none") {
      response.status = 204;
      co_return Ok{};
    }
    if (path == "/big") {
      response.body.assign(1'000'000, 'b');
      co_return Ok{};
    }
    response.body.append(request.head->header("host")).append(path).append(":").append(request.body);
    if (request.reader != nullptr) {
      for (;;) {
        auto next = co_await request.reader->next();
        if (!next.ok()) {
          response.reset();
          render_error(next.error(), request.head, response);
          break;
        }
        if (next->empty()) break;
        response.body.append(next->data(), next->size());
      }
    }
    co_return Ok{};
  }
  void on_abort(void* cookie) override {
    MAYFLY_CHECK(cookie == this);
    ++aborted;
  }
  void render_error(const Error& error, const RequestHead*, Response& response) override {
    response.status = http_status(error);
    response.content_type = "text/plain";
    response.body = error.reason;
  }
  Timer gate;
  std::uint64_t max_bytes = 8 << 20;
  std::string piece = "piece";
  int pieces = 2;
  int heads = 0, handled = 0, denied = 0, waiting = 0, aborted = 0, cancelled = 0, written = 0;
};

struct Got {
  std::map<std::string, std::string> head, trailers;
  std::string body;
  std::vector<std::string> interim;  // statuses 1xx
  int data_frames = 0;
  bool ended = false;  // END_STREAM came
  bool closed = false;
  std::uint32_t code = 0;  // of the close
  std::string text() const {
    const auto status = head.find(":status");
    return (status == head.end() ? "-" : status->second) + " " + body;
  }
};

using Fields = std::vector<std::pair<std::string, std::string>>;

class TestPeer {
 public:
  explicit TestPeer(wire::Limits limits = {}, std::int32_t window = 0);
  ~TestPeer();
  // Sends a head, and `body` if it is not null; `open`: without an end.
  std::int32_t request(const std::string& method, const std::string& path, const Fields& extra = {},
                       const std::string* body = nullptr, bool open = false);
  std::int32_t get(const std::string& path) { return request("GET", path); }
  std::int32_t post(const std::string& path, const std::string& body, const Fields& extra = {}) {
    return request("POST", path, extra, &body);
  }
  void exchange();                    // until neither has anything to say
  void raw(std::string_view frames);  // past the client's session, then exchange()
  void sweep(std::uint64_t ns_later);
  Got& got(std::int32_t id) { return got_[id]; }
  std::string text(std::int32_t id) {
    exchange();
    return got_[id].text();
  }
  void open_gate() {
    handler.gate.cancel();
    exchange();
  }
  // The last GOAWAY: code and last stream; -1 before.
  std::int64_t goaway = -1;
  std::vector<std::int32_t> goaway_last;
  std::vector<std::string> log;
  std::size_t sent_bytes = 0;  // by the server
  bool takes = true;           // whether the client reads what the server sends
  asio::io_context io{1};
  TestHandler handler{io.get_executor()};
  std::shared_ptr<wire::Core> core;
  std::shared_ptr<Session> session;
  nghttp2_session* client = nullptr;
  int updates = 0;  // WINDOW_UPDATEs of streams from the server

 private:
  struct Calls;
  struct Body {
    std::string text;
    std::size_t at = 0;
    bool open = false;
  };
  std::map<std::int32_t, Got> got_;
  std::vector<std::unique_ptr<Body>> bodies_;
};

std::string frame(std::uint8_t type, std::uint8_t flags, std::uint32_t id, std::string_view payload);

}  // namespace mayfly::http2
