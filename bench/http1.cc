// Keep-alive HTTP/1.1 with answers that have a Content-Length or come in chunks; one request at a time on a connection.
#include <strings.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <vector>

#include "transport.h"

namespace mayfly::bench {
namespace {

constexpr std::size_t kTextOfAFailure = 600;
constexpr std::size_t kMaxChunk = 1U << 30;

struct Connection {
  Fd fd;
  const std::string* request = nullptr;  // null: the lane is free
  std::size_t sent = 0;
  std::string answer;
  std::size_t head_size = 0;    // 0: the head is not complete
  std::size_t answer_size = 0;  // 0: not known, because it comes in chunks
  std::size_t chunk_at = 0;     // where the next chunk begins
  std::string body;             // decoded, if it comes in chunks
  bool closes = false;          // the answer says that the server closes
  bool waits_to_write = false;
};

// The value of a field of a complete head, or an empty text.
std::string_view field(std::string_view head, std::string_view name) {
  for (std::size_t at = head.find("\r\n"); at != std::string_view::npos; at = head.find("\r\n", at + 2)) {
    const std::string_view line = head.substr(at + 2);
    if (line.size() <= name.size() || line[name.size()] != ':') continue;
    if (::strncasecmp(line.data(), name.data(), name.size()) != 0) continue;
    std::string_view value = line.substr(name.size() + 1);
    value = value.substr(0, value.find("\r\n"));
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    return value;
  }
  return {};
}

Outcome outcome_of(std::string_view answer) {
  const std::string_view status = answer.size() >= 12 ? answer.substr(9, 3) : "";
  if (status == "200") return Outcome::kOk;
  if (status == "429") return Outcome::kTooMany;
  if (status == "503") return Outcome::kUnavailable;
  if (status == "504") return Outcome::kTimedOut;
  return Outcome::kOther;
}

class Http1 final : public Transport {
 public:
  Http1(const LoadOptions& o, int epoll, Sink sink) : o_(o), epoll_(epoll), sink_(std::move(sink)) {}

  Status connect() override {
    connections_.resize(o_.connections);
    for (auto& c : connections_) MAYFLY_TRY(open(c));
    return Ok{};
  }

  Status start(std::size_t lane, const Case& request) override {
    Connection& c = connections_[lane];
    if (!c.fd.valid()) MAYFLY_TRY(reopen(c));
    c.request = &request.request;
    c.sent = 0;
    c.answer.clear();
    c.head_size = c.answer_size = c.chunk_at = 0;
    c.body.clear();
    return write_some(c);
  }

  Status flush() override { return Ok{}; }

  Status on_event(const epoll_event& e) override {
    Connection& c = connections_[e.data.u64];
    if (!c.fd.valid()) return Ok{};
    if ((e.events & EPOLLOUT) != 0 && c.request != nullptr) MAYFLY_TRY(write_some(c));
    if (c.fd.valid() && (e.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) MAYFLY_TRY(read_some(c));
    return Ok{};
  }

  Status give_up(std::size_t lane) override {
    connections_[lane].fd.reset();
    connections_[lane].request = nullptr;
    return Ok{};
  }

  std::uint64_t reconnects() const override { return reconnects_; }

 private:
  std::size_t lane_of(const Connection& c) const { return static_cast<std::size_t>(&c - connections_.data()); }

  Status open(Connection& c) {
    auto fd = connect_loopback(o_.port);
    if (!fd.ok()) return std::move(fd.error());
    c.fd = std::move(*fd);
    c.waits_to_write = c.closes = false;
    return wait_for_events(epoll_, EPOLL_CTL_ADD, c.fd.get(), lane_of(c), false);
  }

  Status reopen(Connection& c) {
    ++reconnects_;
    return open(c);
  }

  // The connection is gone. A request that was open on it is lost.
  Status cut(Connection& c, std::string_view how) {
    c.fd.reset();
    if (c.request == nullptr) return Ok{};
    c.request = nullptr;
    sink_(lane_of(c), Outcome::kCut,
          fmt::format("{} after {} bytes sent and {} received: {:.200}", how, c.sent, c.answer.size(), c.answer));
    return Ok{};
  }

  Status write_some(Connection& c) {
    const std::string& request = *c.request;
    while (c.sent < request.size()) {
      const ssize_t n =
          ::send(c.fd.get(), request.data() + c.sent, request.size() - c.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return want_write(c, true);
      // An answer that came before the whole request was taken can still be read.
      if (n < 0) return want_write(c, false);
      c.sent += static_cast<std::size_t>(n);
    }
    return want_write(c, false);
  }

  Status want_write(Connection& c, bool wanted) {
    if (c.waits_to_write == wanted) return Ok{};
    c.waits_to_write = wanted;
    return wait_for_events(epoll_, EPOLL_CTL_MOD, c.fd.get(), lane_of(c), wanted);
  }

  Status read_some(Connection& c) {
    const ssize_t n = ::recv(c.fd.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return Ok{};
    if (n <= 0) return cut(c, n == 0 ? "closed by the server" : "reset by the server");
    if (c.request == nullptr) {
      return load_error("the server sent {} bytes that nobody asked for: {:.100}", n,
                        std::string_view(buffer_.data(), static_cast<std::size_t>(n)));
    }
    c.answer.append(buffer_.data(), static_cast<std::size_t>(n));
    if (c.head_size == 0) MAYFLY_TRY(read_head(c));
    if (c.chunk_at != 0 && c.answer_size == 0) MAYFLY_TRY(read_chunks(c));
    if (c.answer_size == 0 || c.answer.size() < c.answer_size) return Ok{};
    if (c.answer.size() > c.answer_size) return load_error("an answer is longer than it says");
    finish(c);
    return Ok{};
  }

  static Status read_head(Connection& c) {
    const auto end = c.answer.find("\r\n\r\n");
    if (end == std::string::npos) return Ok{};
    const std::string_view head = std::string_view(c.answer).substr(0, end + 2);
    c.closes = field(head, "connection") == "close";
    c.head_size = end + 4;
    if (field(head, "transfer-encoding") == "chunked") {
      c.chunk_at = c.head_size;
      return Ok{};
    }
    const std::string_view digits = field(head, "content-length");
    std::size_t body = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), body).ec != std::errc{}) {
      return load_error("an answer has no readable Content-Length: {:.300}", c.answer);
    }
    c.answer_size = c.head_size + body;
    return Ok{};
  }

  // Takes the chunks that are complete. The last one has no bytes; trailers are not understood.
  static Status read_chunks(Connection& c) {
    while (true) {
      const auto line_end = c.answer.find("\r\n", c.chunk_at);
      if (line_end == std::string::npos) return Ok{};
      std::size_t size = 0;
      const char* digits = c.answer.data() + c.chunk_at;
      if (std::from_chars(digits, c.answer.data() + line_end, size, 16).ec != std::errc{} || size > kMaxChunk) {
        return load_error("a chunk has no readable size: {:.100}", std::string_view(c.answer).substr(c.chunk_at));
      }
      const std::size_t next = line_end + 2 + size + 2;
      if (c.answer.size() < next) return Ok{};
      c.body.append(c.answer, line_end + 2, size);
      c.chunk_at = next;
      if (size > 0) continue;
      c.answer_size = next;
      return Ok{};
    }
  }

  void finish(Connection& c) {
    const bool whole = c.sent == c.request->size();
    c.request = nullptr;
    if (c.closes || !whole) c.fd.reset();
    const Outcome outcome = outcome_of(c.answer);
    const std::string_view answer = c.answer;
    const std::string_view body = c.chunk_at != 0 ? std::string_view(c.body) : answer.substr(c.head_size);
    sink_(lane_of(c), outcome, outcome == Outcome::kOk ? body : answer.substr(0, kTextOfAFailure));
  }

  const LoadOptions& o_;
  const int epoll_;
  const Sink sink_;
  std::vector<Connection> connections_;
  std::array<char, 65536> buffer_{};
  std::uint64_t reconnects_ = 0;
};

}  // namespace

std::unique_ptr<Transport> make_http1(const LoadOptions& options, int epoll, Transport::Sink sink) {
  return std::make_unique<Http1>(options, epoll, std::move(sink));
}

}  // namespace mayfly::bench
