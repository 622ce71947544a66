// The two loops. Closed: a lane that got its answer takes the next request. Open: requests are due at fixed times;
// those due while every lane is taken wait in order, and their latency counts from the time that they were due, so that
// a server that stalls can't hide it (no coordinated omission).
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <deque>

#include "transport.h"

namespace mayfly::bench {

Result<Fd> connect_loopback(std::uint16_t port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return load_error("connect to 127.0.0.1:{}: {}", port, std::error_code(errno, std::generic_category()).message());
  }
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

Status wait_for_events(int epoll, int op, int fd, std::uint64_t number, bool write) {
  epoll_event e{.events = EPOLLIN, .data = {.u64 = number}};
  if (write) e.events |= EPOLLOUT;
  if (::epoll_ctl(epoll, op, fd, &e) != 0) return errno_error(errno, "epoll_ctl");
  return Ok{};
}

std::uint64_t Report::failed() const {
  std::uint64_t n = 0;
  for (std::size_t i = 1; i < us.size(); ++i) n += us[i].size();
  return n;
}

namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kLookForHung = kSecond / 2;  // how often
constexpr std::uint64_t kMaxCuts = 100'000;          // a server that cuts every connection ends the run

volatile std::sig_atomic_t g_stop = 0;

double cpu_seconds() {
  rusage u{};
  ::getrusage(RUSAGE_SELF, &u);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(u.ru_utime) + seconds(u.ru_stime);
}

double unix_seconds() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

struct Lane {
  std::uint64_t due = 0;   // when the request was to start
  std::uint64_t sent = 0;  // when it did
  std::size_t number = 0;  // of the request
  bool open = false;
};

class Load {
 public:
  explicit Load(const LoadOptions& o)
      : o_(o), epoll_(::epoll_create1(EPOLL_CLOEXEC)), lanes_(o.connections * o.streams) {
    auto sink = [this](std::size_t lane, Outcome outcome, std::string_view text) { finish(lane, outcome, text); };
    transport_ = o.protocol == Protocol::kGrpc ? make_grpc(o, epoll_.get(), sink) : make_http1(o, epoll_.get(), sink);
  }

  Result<Report> run() {
    MAYFLY_TRY(transport_->connect());
    for (std::size_t i = lanes_.size(); i > 0; --i) free_.push_back(i - 1);
    if (o_.warmup == 0) begin();
    std::vector<epoll_event> events(256);
    while (true) {
      MAYFLY_TRY(o_.rate > 0 ? start_due() : start_next());
      MAYFLY_TRY(transport_->flush());
      if (open_ == 0 && ended()) break;
      const timespec wait = time_to_wait();
      const int n = ::epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()), &wait, nullptr);
      if (n < 0 && errno != EINTR) return errno_error(errno, "epoll_pwait2");
      for (int i = 0; i < n; ++i) MAYFLY_TRY(transport_->on_event(events[static_cast<std::size_t>(i)]));
      MAYFLY_TRY(give_up_hung());
      if (report_.us[static_cast<std::size_t>(Outcome::kCut)].size() > kMaxCuts) {
        return load_error("the server cut {} connections under a request", kMaxCuts);
      }
    }
    report_.seconds = static_cast<double>(now_ns() - begin_) / 1e9;
    report_.cpu_s = cpu_seconds() - cpu_begin_;
    report_.unsent = backlog_.size();
    report_.reconnects = transport_->reconnects();
    return std::move(report_);
  }

 private:
  void begin() {
    begin_ = now_ns();
    cpu_begin_ = cpu_seconds();
    measuring_ = true;
  }

  // No further request is started.
  bool ended() const {
    if (g_stop != 0) return true;
    if (o_.rate == 0 && o_.count > 0) return started_ >= o_.warmup + o_.count;
    if (!measuring_) return false;
    const double passed = static_cast<double>(now_ns() - begin_) / 1e9;
    // Arrivals that found no lane get one more timeout to be sent.
    return passed >= o_.seconds && (o_.rate == 0 || backlog_.empty() || passed >= o_.seconds + o_.timeout_s);
  }

  Status start_next() {
    while (!free_.empty() && !ended()) MAYFLY_TRY(start(now_ns()));
    return Ok{};
  }

  Status start_due() {
    const std::uint64_t now = now_ns();
    while (arrived_ < total_arrivals() && g_stop == 0 && due(arrived_) <= now) backlog_.push_back(due(arrived_++));
    while (!backlog_.empty() && !free_.empty()) {
      const std::uint64_t at = backlog_.front();
      backlog_.pop_front();
      MAYFLY_TRY(start(at));
      report_.lag_us.push_back(static_cast<float>(static_cast<double>(now_ns() - at) / 1e3));
    }
    return Ok{};
  }

  std::uint64_t total_arrivals() const { return static_cast<std::uint64_t>(o_.rate * o_.seconds); }

  std::uint64_t due(std::uint64_t arrival) const {
    return begin_ + static_cast<std::uint64_t>(static_cast<double>(arrival) * 1e9 / o_.rate);
  }

  Status start(std::uint64_t at) {
    const std::size_t lane = free_.back();
    free_.pop_back();
    lanes_[lane] = {.due = at, .sent = now_ns(), .number = started_++, .open = true};
    ++open_;
    return transport_->start(lane, case_of(lane));
  }

  const Case& case_of(std::size_t lane) const { return o_.cases[lanes_[lane].number % o_.cases.size()]; }

  void finish(std::size_t lane, Outcome outcome, std::string_view text) {
    const std::uint64_t now = now_ns();
    Lane& l = lanes_[lane];
    if (outcome == Outcome::kOk && text.find(case_of(lane).expect) == std::string_view::npos) outcome = Outcome::kWrong;
    l.open = false;
    --open_;
    ++done_;
    free_.push_back(lane);
    const auto us = static_cast<float>(static_cast<double>(now - l.due) / 1e3);
    if (outcome != Outcome::kOk && report_.failures.size() < kMaxFailures) {
      report_.failures.push_back({unix_seconds(), outcome, us, std::string(text.substr(0, 600))});
    }
    // A failure in the warm-up is one too.
    if (measuring_ || outcome != Outcome::kOk) report_.us[static_cast<std::size_t>(outcome)].push_back(us);
    if (measuring_ && outcome == Outcome::kOk && static_cast<double>(now - begin_) / 1e9 <= o_.seconds)
      ++report_.ok_in_time;
    if (!measuring_ && done_ >= o_.warmup) begin();
  }

  Status give_up_hung() {
    const std::uint64_t now = now_ns();
    if (now - looked_ < kLookForHung) return Ok{};
    looked_ = now;
    const auto limit = static_cast<std::uint64_t>(o_.timeout_s * 1e9);
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      if (!lanes_[i].open || now - lanes_[i].sent < limit) continue;
      MAYFLY_TRY(transport_->give_up(i));
      finish(i, Outcome::kHung, fmt::format("no answer for {} s", o_.timeout_s));
    }
    return Ok{};
  }

  timespec time_to_wait() const {
    std::uint64_t ns = kLookForHung;
    const std::uint64_t now = now_ns();
    if (o_.rate > 0 && g_stop == 0) {
      const std::uint64_t next = arrived_ < total_arrivals() ? due(arrived_) : due(total_arrivals());
      if (next > now) ns = std::min(ns, next - now);
      if (next <= now && arrived_ < total_arrivals()) ns = 0;
    }
    return {.tv_sec = static_cast<time_t>(ns / kSecond), .tv_nsec = static_cast<long>(ns % kSecond)};
  }

  const LoadOptions& o_;
  Fd epoll_;
  std::unique_ptr<Transport> transport_;
  std::vector<Lane> lanes_;
  std::vector<std::size_t> free_;
  std::deque<std::uint64_t> backlog_;  // due times
  std::size_t started_ = 0, done_ = 0, open_ = 0;
  std::uint64_t arrived_ = 0, begin_ = 0, looked_ = 0;
  double cpu_begin_ = 0;
  bool measuring_ = false;
  Report report_;
};

}  // namespace

Result<Report> run_load(const LoadOptions& options) {
  std::signal(SIGTERM, [](int) { g_stop = 1; });
  return Load(options).run();
}

}  // namespace mayfly::bench
