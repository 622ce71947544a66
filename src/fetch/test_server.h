// For tests: an HTTP server on a free loopback port that answers as a script says, honest or not. A thread for each
// connection; the script sees the head of a request and says what to send, byte by byte, and what to do then. A body is
// read, by its Content-Length, before the answer.
#pragma once
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace mayfly {

struct Reply {
  enum class Then { kNext, kClose, kHang };
  std::string bytes;
  Then then = Then::kNext;  // another request, an end, or silence until the server goes
};

class TestServer {
 public:
  using Script = std::function<Reply(const std::string& head, int number)>;  // number: of the request, from 0
  explicit TestServer(Script script) : script_(std::move(script)) {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&at), sizeof at);
    ::listen(listener_.get(), 64);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~TestServer() {
    stopping_ = true;
    acceptor_.join();
    for (auto& t : threads_) t.join();
  }
  std::string url(std::string_view path) const { return fmt::format("http://127.0.0.1:{}{}", port_, path); }
  std::uint16_t port() const { return port_; }
  int requests() const { return requests_; }
  std::vector<std::string> heads() {
    const std::lock_guard lock(mutex_);
    return heads_;
  }
  std::vector<std::string> bodies() {  // of the same requests
    const std::lock_guard lock(mutex_);
    return bodies_;
  }

 private:
  bool readable(int fd) const {
    while (!stopping_) {
      pollfd p{fd, POLLIN, 0};
      if (::poll(&p, 1, 10) > 0) return true;
    }
    return false;
  }
  void accept_all() {
    while (readable(listener_.get())) {
      threads_.emplace_back([this, fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)] { serve(Fd(fd)); });
    }
  }
  void serve(Fd fd) {
    std::string in;
    char buffer[4096];
    while (readable(fd.get())) {
      const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
      if (n <= 0) return;
      in.append(buffer, static_cast<std::size_t>(n));
      const auto end = in.find("\r\n\r\n");
      if (end == std::string::npos) continue;
      const std::string head = in.substr(0, end + 2);
      const auto length = head.find("\r\nContent-Length: ");
      const std::size_t body = length == std::string::npos ? 0 : std::stoul(head.substr(length + 18));
      if (in.size() < end + 4 + body) continue;
      {
        const std::lock_guard lock(mutex_);
        heads_.push_back(head);
        bodies_.push_back(in.substr(end + 4, body));
      }
      in.erase(0, end + 4 + body);
      const Reply reply = script_(head, requests_++);
      std::size_t at = 0;
      while (at < reply.bytes.size()) {
        const ssize_t sent = ::send(fd.get(), reply.bytes.data() + at, reply.bytes.size() - at, MSG_NOSIGNAL);
        if (sent <= 0) return;
        at += static_cast<std::size_t>(sent);
      }
      if (reply.then == Reply::Then::kClose) return;
      while (reply.then == Reply::Then::kHang && !stopping_) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  Script script_;
  Fd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> requests_{0};
  std::mutex mutex_;
  std::vector<std::string> heads_, bodies_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

inline std::string head_value(const std::string& head, const std::string& name) {
  const auto at = head.find("\r\n" + name + ": ");
  if (at == std::string::npos) return "";
  const auto from = at + name.size() + 4;
  return head.substr(from, head.find("\r\n", from) - from);
}

// An honest answer: the range that was asked for, or all.
inline std::string honest(const std::string& head, const std::string& content, const std::string& etag = "\"1\"") {
  const std::string range = head_value(head, "Range");
  if (range.empty())
    return fmt::format("HTTP/1.1 200 OK\r\nETag: {}\r\nContent-Length: {}\r\n\r\n{}", etag, content.size(), content);
  const std::size_t first = std::stoul(range.substr(6)), asked = std::stoul(range.substr(range.find('-') + 1));
  if (first >= content.size())
    return fmt::format("HTTP/1.1 416 No\r\nContent-Range: bytes */{}\r\nContent-Length: 0\r\n\r\n", content.size());
  const std::size_t last = std::min(asked, content.size() - 1);
  return fmt::format(
      "HTTP/1.1 206 Partial\r\nETag: {}\r\nContent-Range: bytes {}-{}/{}\r\nContent-Length: {}\r\n\r\n{}", etag, first,
      last, content.size(), last - first + 1, content.substr(first, last - first + 1));
}

}  // namespace mayfly
