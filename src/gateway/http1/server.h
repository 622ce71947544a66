// The HTTP/1.1 server: one listening socket, one coroutine per connection, all on the one reactor thread of its
// Executor.
//
// Everything is bounded: connections, head, each body and its time (the handler's policy), the bytes that all bodies
// take together, and each wait (head, body or answer making no progress, idle keep-alive). Deadlines are swept by one
// timer per server, at a quarter of the shortest timeout and at most each second, so they pass late by up to two
// sweeps; a request touches no timer. Owner: app/. The handler must outlive every request; drain() before destroying
// the server, and keep the io_context until both are gone. create() fails with invalid_address or listen_failed.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "gateway/http.h"

namespace mayfly::http1 {

struct ServerCore;

class Http1Server {
 public:
  struct Options {
    std::string address = "127.0.0.1";
    std::uint16_t port = 0;  // 0: any free one
    std::size_t max_connections = 4096;
    std::size_t max_head_bytes = 64 * 1024;
    // Of all bodies over 64 KiB and decoded ones that are held whole, allocated; further ones get 503. What comes to it
    // are 128 KiB a connection at most for its head and a small body.
    std::uint64_t max_buffered_bytes = 1ULL << 30;
    std::chrono::milliseconds head_timeout{10'000};        // first byte of a head to its last
    std::chrono::milliseconds body_timeout{30'000};        // no progress of a body, or of an answer
    std::chrono::milliseconds keep_alive_timeout{75'000};  // between requests, and before the first
    std::chrono::milliseconds linger_timeout{2'000};       // from our last byte to the client's
  };
  // Binds and listens; connections wait in the backlog until start().
  static Result<std::unique_ptr<Http1Server>> create(Executor executor, Options options, HttpHandler& handler);
  ~Http1Server();
  Http1Server(const Http1Server&) = delete;
  Http1Server& operator=(const Http1Server&) = delete;

  std::uint16_t port() const;
  std::size_t connections() const;  // open now
  void start();
  // Stops accepting, closes idle connections, lets running requests answer with Connection: close, and cuts the
  // connections that are left at the deadline. A handler that still runs then is not stopped; its answer is dropped.
  Task<Ok> drain(TimePoint deadline);

 private:
  explicit Http1Server(std::shared_ptr<ServerCore> core);
  std::shared_ptr<ServerCore> core_;
};

}  // namespace mayfly::http1
