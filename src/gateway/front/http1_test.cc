// The server over loopback with a small echo handler: order, limits, refusals, timeouts and drain.
#include "gateway/front/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>

#include "base/fd.h"
#include "gateway/wire/test_gzip.h"

namespace mayfly::front {
namespace {

using namespace std::chrono_literals;

class EchoHandler final : public HttpHandler {
 public:
  explicit EchoHandler(Executor ex) : gate(ex, TimePoint::max()) {}
  BodyPolicy on_head(const Request& request, void*& cookie) override {
    cookie = this;
    BodyPolicy policy;
    policy.max_bytes = 8 << 20;
    policy.streaming = request.head->path == "/stream";
    if (request.head->path == "/denied") {
      policy.refuse = Error{Code::kUnauthenticated, "no_key", "denied"};
      policy.refuse_headers = "X-Why: key\r\n";
    }
    if (request.head->query == "due") policy.deadline_ns = request.received_ns + 100'000'000;
    return policy;
  }
  Task<Ok> handle(const Request& request, void* cookie, Response& response) override {
    EXPECT_EQ(cookie, this);
    EXPECT_TRUE(request.loopback);
    if (request.head->path == "/wait") {
      ++waiting;
      static_cast<void>(co_await gate.async_wait(use_result));
      ++waited;
    }
    if (request.head->path == "/gone") {
      ++waiting;
      const CancelScope scope(request.cancel, [](void* h) { static_cast<EchoHandler*>(h)->gate.cancel(); }, this);
      static_cast<void>(co_await gate.async_wait(use_result));
      gone += request.cancel->fired() ? 1 : 0;
    }
    response.content_type = "text/plain";
    response.headers = "X-Extra: 1\r\n";
    if (request.head->path == "/pieces") {
      co_await request.writer->begin(response);
      for (std::string_view piece : {"one", "", "three"}) co_await request.writer->write(piece);
      co_return Ok{};
    }
    response.body.append(request.head->path).append(":").append(request.body);
    if (request.reader != nullptr) {
      for (;;) {
        auto piece = co_await request.reader->next();
        if (!piece.ok()) {
          response.reset();
          render_error(piece.error(), request.head, response);
          break;
        }
        if (piece->empty()) break;
        response.body.append(piece->data(), piece->size());
      }
    }
    co_return Ok{};
  }
  void on_abort(void* cookie) override {
    EXPECT_EQ(cookie, this);
    ++aborted;
  }
  void render_error(const Error& error, const RequestHead*, Response& response) override {
    response.status = http_status(error);
    response.body = error.reason;
  }
  Timer gate;
  std::atomic<int> waiting{0}, waited{0}, aborted{0}, gone{0};
};

class Client {
 public:
  explicit Client(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  // One answer, as "STATUS BODY"; "closed" at the end. `head` holds its head.
  std::string answer(bool bodiless = false) {
    for (;;) {
      const auto end = in_.find("\r\n\r\n");
      if (end != std::string::npos) {
        head = in_.substr(0, end + 4);
        const auto at = head.find("Content-Length: ");
        const std::size_t length = bodiless || at == std::string::npos ? 0 : std::stoul(head.substr(at + 16));
        while (in_.size() < end + 4 + length) {
          if (!read()) return "cut";
        }
        const std::string out = head.substr(9, 3) + " " + in_.substr(end + 4, length);
        in_.erase(0, end + 4 + length);
        return out;
      }
      if (!read()) return in_.empty() ? "closed" : "cut";
    }
  }
  // The next bytes, up to and with `last`.
  std::string take(std::string_view last) {
    for (;;) {
      const auto at = in_.find(last);
      if (at != std::string::npos) {
        std::string out = in_.substr(0, at + last.size());
        in_.erase(0, out.size());
        return out;
      }
      if (!read()) return "cut";
    }
  }
  void close() { fd_.reset(); }
  std::string head;
  int reads = 0;

 private:
  bool read() {
    pollfd p{fd_.get(), POLLIN, 0};
    if (::poll(&p, 1, 20'000) != 1) return false;
    char buffer[65536];
    const ssize_t n = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    ++reads;
    if (n <= 0) return false;
    in_.append(buffer, static_cast<std::size_t>(n));
    return true;
  }
  Fd fd_;
  std::string in_;
};

class Http1ServerTest : public testing::Test {
 protected:
  void start(wire::Limits limits = {}) {
    Server::Options options;
    options.limits = limits;
    auto created = Server::create(io_.get_executor(), options, handler_);
    ASSERT_TRUE(created.ok());
    server_ = std::move(created).value();
    server_->start();
    thread_ = std::thread([this] { io_.run(); });
  }
  std::future<void> drain(std::chrono::milliseconds within) {
    auto done = std::make_shared<std::promise<void>>();
    auto future = done->get_future();
    const TimePoint deadline = std::chrono::steady_clock::now() + within;
    asio::co_spawn(io_.get_executor(), server_->drain(deadline), [done](std::exception_ptr, Ok) { done->set_value(); });
    return future;
  }
  void open_gate() {
    asio::post(io_, [this] { handler_.gate.cancel(); });
  }
  void await(const std::atomic<int>& counter, int value) {
    const TimePoint end = std::chrono::steady_clock::now() + 20s;
    while (counter < value && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    EXPECT_GE(counter, value);
  }
  void TearDown() override {
    if (!server_) return;
    drain(0ms).wait();
    open_gate();
    work_.reset();
    thread_.join();  // every coroutine of the server ends
    EXPECT_EQ(server_->connections(), 0U);
  }
  asio::io_context io_{1};
  asio::executor_work_guard<Executor> work_{io_.get_executor()};  // a drained server leaves the loop without work
  EchoHandler handler_{io_.get_executor()};
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

std::string post(std::string_view path, std::string_view body, std::string_view extra = {}) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n{}\r\n{}", path, body.size(), extra, body);
}

TEST_F(Http1ServerTest, KeepsTheConnection) {
  start();
  Client c(server_->port());
  for (int i = 0; i < 3; ++i) {
    c.send(post("/a", std::to_string(i)));
    EXPECT_EQ(c.answer(), "200 /a:" + std::to_string(i));
  }
  EXPECT_NE(c.head.find("Content-Type: text/plain\r\n"), std::string::npos);
  EXPECT_NE(c.head.find("X-Extra: 1\r\n"), std::string::npos);
  EXPECT_NE(c.head.find("Date: "), std::string::npos);
  c.send("GET /b HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(c.answer(), "200 /b:");
  EXPECT_NE(c.head.find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(c.answer(), "closed");
}

TEST_F(Http1ServerTest, PiecesAreChunks) {
  start();
  Client c(server_->port());
  for (int i = 0; i < 2; ++i) {
    c.send("GET /pieces HTTP/1.1\r\nHost: t\r\n\r\n");
    EXPECT_EQ(c.answer(), "200 ");
    EXPECT_NE(c.head.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
    EXPECT_EQ(c.take("0\r\n\r\n"), "3\r\none\r\n5\r\nthree\r\n0\r\n\r\n");
  }
  c.send("GET /pieces HTTP/1.0\r\n\r\n");
  EXPECT_EQ(c.answer(), "200 ");
  EXPECT_EQ(c.take("onethree"), "onethree");
  EXPECT_EQ(c.answer(), "closed");
}

TEST_F(Http1ServerTest, TellsTheHandlerThatItsClientIsGone) {
  start();
  Client c(server_->port());
  c.send("GET /gone HTTP/1.1\r\nHost: t\r\n\r\n");
  await(handler_.waiting, 1);
  c.close();
  await(handler_.gone, 1);
}

TEST_F(Http1ServerTest, Http10ClosesUnlessAsked) {
  start();
  Client c(server_->port());
  c.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(c.answer(), "200 /a:");
  EXPECT_NE(c.head.find("Connection: keep-alive\r\n"), std::string::npos);
  c.send("GET /a HTTP/1.0\r\n\r\n");
  EXPECT_EQ(c.answer(), "200 /a:");
  EXPECT_EQ(c.answer(), "closed");
}

TEST_F(Http1ServerTest, AnswersPipelinedRequestsInOrderAndTogether) {
  start();
  Client c(server_->port());
  std::string all;
  for (int i = 0; i < 100; ++i) all += post("/p", std::to_string(i));
  c.send(all);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(c.answer(), "200 /p:" + std::to_string(i));
  EXPECT_LT(c.reads, 20);
}

TEST_F(Http1ServerTest, ReadyAnswerDoesNotWaitForTheNextHandler) {
  start();
  Client c(server_->port());
  c.send(post("/p", "1") + post("/wait", "2") + post("/p", "3"));
  EXPECT_EQ(c.answer(), "200 /p:1");
  await(handler_.waiting, 1);
  open_gate();
  EXPECT_EQ(c.answer(), "200 /wait:2");
  EXPECT_EQ(c.answer(), "200 /p:3");
}

TEST_F(Http1ServerTest, RequestsSplitAtEveryByte) {
  start();
  Client c(server_->port());
  const std::string request = post("/split", "body");
  for (std::size_t i = 1; i < request.size(); ++i) {
    c.send(request.substr(0, i));
    c.send(request.substr(i));
    ASSERT_EQ(c.answer(), "200 /split:body") << i;
  }
}

TEST_F(Http1ServerTest, BodiesOfManySizes) {
  start();
  Client c(server_->port());
  for (std::size_t n : {1U, 16000U, 16384U, 65536U, 65537U, 1000000U, 5000000U, 10U}) {
    const std::string body(n, static_cast<char>('a' + n % 26));
    std::thread sender([&] { c.send(post("/b", body, "X-After: y\r\n") + post("/b", "next")); });
    EXPECT_EQ(c.answer(), "200 /b:" + body) << n;
    EXPECT_EQ(c.answer(), "200 /b:next");
    sender.join();
  }
}

TEST_F(Http1ServerTest, ChunkedAndStreaming) {
  start();
  Client c(server_->port());
  for (const char* path : {"/c", "/stream"}) {
    c.send(fmt::format("POST {} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", path));
    c.send("2\r\nde\r\n0\r\n\r\n" + post(path, "plain"));
    EXPECT_EQ(c.answer(), fmt::format("200 {}:abcde", path));
    EXPECT_EQ(c.answer(), fmt::format("200 {}:plain", path));
  }
  const std::string big(3'000'000, 'x');
  c.send(post("/stream", big));
  EXPECT_EQ(c.answer(), "200 /stream:" + big);
  c.send("POST /stream HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX");
  EXPECT_EQ(c.answer(), "400 malformed_body");
  EXPECT_EQ(c.answer(), "closed");
}

TEST_F(Http1ServerTest, ExpectContinue) {
  start();
  Client c(server_->port());
  for (const char* path : {"/e", "/stream"}) {
    c.send(fmt::format("POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", path));
    EXPECT_EQ(c.answer(true), "100 ");
    c.send("abc");
    EXPECT_EQ(c.answer(), fmt::format("200 {}:abc", path));
  }
  c.send("POST /denied HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(c.answer(), "401 no_key");
  EXPECT_EQ(c.answer(), "closed");
}

TEST_F(Http1ServerTest, HeadHasNoBody) {
  start();
  Client c(server_->port());
  c.send("HEAD /abc HTTP/1.1\r\nHost: t\r\n\r\nGET /d HTTP/1.1\r\nHost: t\r\n\r\n");
  EXPECT_EQ(c.answer(true), "200 ");
  EXPECT_NE(c.head.find("Content-Length: 5\r\n"), std::string::npos);
  EXPECT_EQ(c.answer(), "200 /d:");
}

TEST_F(Http1ServerTest, RefusalKeepsTheConnectionAfterASmallBody) {
  start();
  Client c(server_->port());
  c.send(post("/denied", std::string(60'000, 'x')) + post("/ok", "1"));
  EXPECT_EQ(c.answer(), "401 no_key");
  EXPECT_NE(c.head.find("X-Why: key\r\n"), std::string::npos);
  EXPECT_EQ(c.answer(), "200 /ok:1");
  EXPECT_EQ(c.head.find("X-Why"), std::string::npos);
}

TEST_F(Http1ServerTest, TooLargeIsAnsweredThoughTheClientStillSends) {
  start();
  Client c(server_->port());
  c.send("POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n");
  c.send(std::string(1'000'000, 'x'));
  EXPECT_EQ(c.answer(), "413 payload_too_large");
  c.close();
  Client d(server_->port());
  d.send("POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt::format("{:x}\r\n", 9 << 20));
  d.send(std::string(9 << 20, 'x'));
  EXPECT_EQ(d.answer(), "413 payload_too_large");
  EXPECT_EQ(handler_.aborted, 2);
}

TEST_F(Http1ServerTest, TransportErrors) {
  start();
  const std::pair<std::string, std::string> cases[] = {
      {"nonsense\r\n\r\n", "400 malformed_request"},
      {"GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(70'000, 'x'), "431 head_too_large"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501 unsupported_transfer_encoding"},
      {post("/", "x", "Content-Encoding: br\r\n"), "415 unsupported_content_encoding"},
      {post("/", "not gzip", "Content-Encoding: gzip\r\n"), "400 malformed_body"},
  };
  for (const auto& [bytes, want] : cases) {
    Client c(server_->port());
    c.send(bytes);
    EXPECT_EQ(c.answer(), want);
  }
}

TEST_F(Http1ServerTest, ClientThatLeavesDoesNotStopItsHandler) {
  start();
  Client c(server_->port());
  c.send(post("/wait", "1"));
  await(handler_.waiting, 1);
  c.close();
  open_gate();
  await(handler_.waited, 1);
  Client d(server_->port());
  d.send("POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
  d.close();
  await(handler_.aborted, 1);
}

TEST_F(Http1ServerTest, SlowHeadAndSlowBodyTimeOut) {
  wire::Limits options;
  options.head_timeout = options.body_timeout = 60ms;
  start(options);
  Client c(server_->port());
  c.send("GET / HTT");
  EXPECT_EQ(c.answer(), "408 head_timeout");
  EXPECT_EQ(c.answer(), "closed");
  Client d(server_->port());
  d.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(d.answer(), "408 body_timeout");
  EXPECT_EQ(handler_.aborted, 1);
}

// Each byte is progress, so that only the deadline ends these.
TEST_F(Http1ServerTest, TrickledBodyEndsAtItsDeadline) {
  wire::Limits options;
  options.head_timeout = 200ms;  // sweeps each 50 ms
  start(options);
  for (const char* path : {"/a?due", "/stream?due"}) {
    for (const char* framing : {"Content-Length: 1000", "Content-Length: 100000", "Transfer-Encoding: chunked"}) {
      Client c(server_->port());
      c.send(fmt::format("POST {} HTTP/1.1\r\nHost: t\r\n{}\r\n\r\n", path, framing));
      std::atomic<bool> over{false};
      std::thread trickle([&] {
        for (int i = 0; i < 1000 && !over; ++i, std::this_thread::sleep_for(10ms))
          c.send(framing[0] == 'C' ? "x" : "1\r\nx\r\n");
      });
      EXPECT_EQ(c.answer(), "504 deadline_exceeded") << path << framing;
      over = true;
      trickle.join();
    }
  }
  EXPECT_EQ(handler_.aborted, 3);
  Client d(server_->port());
  d.send(post("/wait?due", "1"));  // the deadline is the body's alone, not the handler's
  await(handler_.waiting, 1);
  std::this_thread::sleep_for(250ms);
  open_gate();
  EXPECT_EQ(d.answer(), "200 /wait:1");
  d.send(post("/stream", "2"));
  EXPECT_EQ(d.answer(), "200 /stream:2");
}

TEST_F(Http1ServerTest, AllBodiesTogetherHaveABudget) {
  wire::Limits options;
  options.max_buffered_bytes = 12 << 20;  // all callers are one, which has half of it
  start(options);
  const std::string text(4 << 20, '0');
  const std::string packed = post("/a", wire::compressed(text), "Content-Encoding: gzip\r\n");
  for (int round = 0; round < 3; ++round) {
    Client holds(server_->port());
    holds.send(post("/p", "1") + packed.substr(0, packed.size() - 1));  // the last byte is withheld
    EXPECT_EQ(holds.answer(), "200 /p:1");
    std::string refused;
    // Until the server has read what the first holds, there is room for another.
    for (int i = 0; i < 1000 && refused.empty(); ++i) {
      Client c(server_->port());
      c.send(packed);
      const std::string answer = c.answer();
      if (answer != "200 /a:" + text) refused = answer;
    }
    EXPECT_EQ(refused, "429 caller_budget_exceeded");
    Client large(server_->port());
    large.send(post("/b", std::string(4 << 20, 'x')));
    EXPECT_EQ(large.answer(), "429 caller_budget_exceeded");
    EXPECT_EQ(large.answer(), "closed");
    Client small(server_->port());
    small.send(post("/b", std::string(60'000, 'x')));  // small bodies are not the budget's
    EXPECT_EQ(small.answer(), "200 /b:" + std::string(60'000, 'x'));
    holds.send(packed.substr(packed.size() - 1));
    EXPECT_EQ(holds.answer(), "200 /a:" + text);
    small.send(packed);  // it is given back though the connection lives
    EXPECT_EQ(small.answer(), "200 /a:" + text);
  }
  Client big(server_->port());
  big.send(post("/b", std::string(6 << 20, 'x')));  // all of its half
  EXPECT_EQ(big.answer(), "200 /b:" + std::string(6 << 20, 'x'));
}

TEST_F(Http1ServerTest, IdleConnectionIsClosed) {
  wire::Limits options;
  options.keep_alive_timeout = 60ms;
  start(options);
  Client c(server_->port());
  EXPECT_EQ(c.answer(), "closed");
  Client d(server_->port());
  d.send(post("/a", "1"));
  EXPECT_EQ(d.answer(), "200 /a:1");
  EXPECT_EQ(d.answer(), "closed");
}

TEST_F(Http1ServerTest, TurnsAwayOverTheConnectionLimit) {
  wire::Limits options;
  options.max_connections = 1;
  start(options);
  Client c(server_->port());
  c.send(post("/a", "1"));
  EXPECT_EQ(c.answer(), "200 /a:1");
  Client d(server_->port());
  EXPECT_EQ(d.answer(), "503 too_many_connections");
  EXPECT_EQ(d.answer(), "closed");
}

TEST_F(Http1ServerTest, LargeAnswerToASlowReader) {
  start();
  Client c(server_->port());
  const std::string body(8'000'000, 'z');
  c.send(post("/a", body));  // the answer does not fit the socket's buffers; nobody reads until all is sent
  c.send(post("/b", "1"));
  EXPECT_EQ(c.answer(), "200 /a:" + body);
  EXPECT_EQ(c.answer(), "200 /b:1");
}

TEST_F(Http1ServerTest, DrainClosesIdleAndLetsRunningFinish) {
  start();
  Client idle(server_->port());
  idle.send(post("/a", "1"));
  EXPECT_EQ(idle.answer(), "200 /a:1");
  Client busy(server_->port());
  busy.send(post("/wait", "2"));
  await(handler_.waiting, 1);
  auto done = drain(20s);
  EXPECT_EQ(idle.answer(), "closed");
  EXPECT_EQ(done.wait_for(0s), std::future_status::timeout);
  open_gate();
  EXPECT_EQ(busy.answer(), "200 /wait:2");
  EXPECT_NE(busy.head.find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(busy.answer(), "closed");
  busy.close();
  EXPECT_EQ(done.wait_for(20s), std::future_status::ready);
}

TEST_F(Http1ServerTest, DrainCutsAtTheDeadline) {
  start();
  Client busy(server_->port());
  busy.send(post("/wait", "2"));
  await(handler_.waiting, 1);
  EXPECT_EQ(drain(50ms).wait_for(20s), std::future_status::ready);
  EXPECT_EQ(busy.answer(), "closed");
}

TEST(Http1ServerCreate, SaysWhyItCannotListen) {
  asio::io_context io;
  EchoHandler handler(io.get_executor());
  Server::Options options;
  options.address = "nowhere";
  EXPECT_EQ(Server::create(io.get_executor(), options, handler).error().reason, "invalid_address");
  options.address = "127.0.0.1";
  auto first = Server::create(io.get_executor(), options, handler);
  ASSERT_TRUE(first.ok());
  options.port = (*first)->port();
  EXPECT_EQ(Server::create(io.get_executor(), options, handler).error().reason, "listen_failed");
}

}  // namespace
}  // namespace mayfly::front
