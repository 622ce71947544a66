// A closed loop of N keep-alive connections on one epoll: each sends its next request when its answer is complete.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>

#include "base/fd.h"
#include "bench.h"

namespace mayfly::bench {
namespace {

constexpr int kStalledMs = 60'000;  // no event on any connection for so long: the run fails

template <typename... A>
Error load_error(fmt::format_string<A...> f, A&&... a) {
  return make_error(Code::kUnavailable, "load_failed", f, std::forward<A>(a)...);
}

struct Connection {
  Fd fd;
  std::size_t sent = 0;
  std::string answer;
  std::size_t answer_size = 0;  // head and body; 0: the head is not complete
  std::uint64_t start = 0;
  bool waits_to_write = false;
};

class Load {
 public:
  explicit Load(const LoadOptions& o) : o_(o), total_(o.warmup + o.count) {}

  Result<Latencies> run() {
    MAYFLY_TRY(connect_all());
    result_.us.reserve(o_.count);
    if (o_.warmup == 0) begin_ = now_ns();
    for (auto& c : connections_) MAYFLY_TRY(next_request(c));
    std::array<epoll_event, 64> events{};
    while (done_ < total_) {
      const int n = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), kStalledMs);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return load_error("no answer for {} s after {} of {} requests", kStalledMs / 1000, done_, total_);
      for (int i = 0; i < n; ++i) {
        const epoll_event& e = events[static_cast<std::size_t>(i)];
        Connection& c = connections_[e.data.u64];
        if ((e.events & EPOLLOUT) != 0) MAYFLY_TRY(write_some(c));
        if ((e.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) MAYFLY_TRY(read_some(c));
      }
    }
    result_.seconds = static_cast<double>(now_ns() - begin_) / 1e9;
    return std::move(result_);
  }

 private:
  Status connect_all() {
    epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
    connections_.resize(o_.connections);
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      Connection& c = connections_[i];
      c.fd = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(o_.port);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      if (::connect(c.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return errno_error(errno, fmt::format("connect to 127.0.0.1:{}", o_.port));
      }
      const int on = 1;
      ::setsockopt(c.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      epoll_event e{.events = EPOLLIN, .data = {.u64 = i}};
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, c.fd.get(), &e) != 0) return errno_error(errno, "epoll_ctl");
    }
    return Ok{};
  }

  Status next_request(Connection& c) {
    if (started_ == total_) return Ok{};
    ++started_;
    c.sent = 0;
    c.answer.clear();
    c.answer_size = 0;
    c.start = now_ns();
    return write_some(c);
  }

  Status write_some(Connection& c) {
    while (c.sent < o_.request.size()) {
      const ssize_t n =
          ::send(c.fd.get(), o_.request.data() + c.sent, o_.request.size() - c.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return want_write(c, true);
      if (n < 0) return errno_error(errno, "send a request");
      c.sent += static_cast<std::size_t>(n);
    }
    return want_write(c, false);
  }

  Status want_write(Connection& c, bool wanted) {
    if (c.waits_to_write == wanted) return Ok{};
    c.waits_to_write = wanted;
    epoll_event e{.events = EPOLLIN, .data = {.u64 = static_cast<std::uint64_t>(&c - connections_.data())}};
    if (wanted) e.events |= EPOLLOUT;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, c.fd.get(), &e) != 0) return errno_error(errno, "epoll_ctl");
    return Ok{};
  }

  Status read_some(Connection& c) {
    const ssize_t n = ::recv(c.fd.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return Ok{};
    if (n < 0) return errno_error(errno, "read an answer");
    if (n == 0) return load_error("the server closed a connection after {} of {} requests", done_, total_);
    c.answer.append(buffer_.data(), static_cast<std::size_t>(n));
    if (c.answer_size == 0) MAYFLY_TRY(read_head(c));
    if (c.answer_size == 0 || c.answer.size() < c.answer_size) return Ok{};
    if (c.answer.size() > c.answer_size) return load_error("an answer is longer than its Content-Length");
    finish(c);
    return next_request(c);
  }

  static Status read_head(Connection& c) {
    const auto end = c.answer.find("\r\n\r\n");
    if (end == std::string::npos) return Ok{};
    constexpr std::string_view kName = "\r\nContent-Length: ";
    const auto at = c.answer.find(kName);
    if (at == std::string::npos || at > end) return load_error("an answer has no Content-Length: {:.60}", c.answer);
    std::size_t body = 0;
    const char* digits = c.answer.data() + at + kName.size();
    if (std::from_chars(digits, c.answer.data() + end, body).ec != std::errc{}) {
      return load_error("an answer has an unreadable Content-Length");
    }
    c.answer_size = end + 4 + body;
    return Ok{};
  }

  void finish(const Connection& c) {
    const std::uint64_t now = now_ns();
    ++done_;
    if (!c.answer.starts_with("HTTP/1.1 200 ")) {
      ++result_.failed;
      if (result_.first_failure.empty()) result_.first_failure = c.answer.substr(0, 600);
    }
    if (done_ > o_.warmup) result_.us.push_back(static_cast<double>(now - c.start) / 1e3);
    if (done_ == o_.warmup) begin_ = now;
  }

  const LoadOptions& o_;
  const std::size_t total_;
  std::size_t started_ = 0, done_ = 0;
  std::uint64_t begin_ = 0;
  Fd epoll_;
  std::vector<Connection> connections_;
  std::array<char, 65536> buffer_{};
  Latencies result_;
};

}  // namespace

Result<Latencies> run_load(const LoadOptions& options) { return Load(options).run(); }

}  // namespace mayfly::bench
