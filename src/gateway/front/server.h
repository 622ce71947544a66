// The listener: one port for every transport. It accepts, tells TLS from plain by the first byte and HTTP/2 from HTTP/1
// by ALPN or the first bytes, and hands the connection with what it has read to the one or the other; it sweeps their
// deadlines and drains them.
//
// Everything is bounded: connections, and what wire::Limits says. Deadlines are swept by one timer per server, at a
// quarter of the shortest timeout and at most each second, so they pass late by up to two sweeps; a request touches no
// timer. Owner: app/; all on the one reactor thread of its Executor. The handler must outlive every request; drain()
// before destroying the server, and keep the io_context until both are gone. create() fails with invalid_address or
// listen_failed.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "crypto/tls.h"
#include "gateway/http.h"
#include "gateway/wire/core.h"

namespace mayfly::front {

struct Listener;

class Server {
 public:
  struct Options {
    std::string address = "127.0.0.1";
    std::uint16_t port = 0;  // 0: any free one
    wire::Limits limits;
    wire::EventLog log;
    std::shared_ptr<const TlsContext> tls;  // null: plain only
    bool allow_plain = false;               // with TLS: serve clients of other hosts without it too
  };
  // Binds and listens; connections wait in the backlog until start().
  static Result<std::unique_ptr<Server>> create(Executor executor, Options options, HttpHandler& handler);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::uint16_t port() const;
  std::size_t connections() const;  // open now
  void start();
  // For connections that come from now on; only where there was one from the start.
  void replace_tls(std::shared_ptr<const TlsContext> tls);
  // Stops accepting, closes idle connections, lets running requests answer (HTTP/1: with Connection: close, HTTP/2:
  // after a GOAWAY), and cuts the connections that are left at the deadline. A handler that still runs then is not
  // stopped; its answer is dropped.
  Task<Ok> drain(TimePoint deadline);

 private:
  explicit Server(std::shared_ptr<Listener> listener);
  std::shared_ptr<Listener> listener_;
};

}  // namespace mayfly::front
