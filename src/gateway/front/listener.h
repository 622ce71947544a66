// What the parts of the listener share; outlives the Server while a handler still runs. Reactor thread only.
#pragma once
#include <memory>

#include "gateway/front/server.h"
#include "gateway/wire/core.h"
#include "gateway/wire/stream.h"

namespace mayfly::front {

using wire::error_code;
using Acceptor = asio::basic_socket_acceptor<asio::ip::tcp, Executor>;

struct Listener {
  Listener(Executor ex, Server::Options o, HttpHandler& handler)
      : core(std::make_shared<wire::Core>(ex, o.limits, handler, o.log)),
        options(std::move(o)),
        tls(options.tls),
        acceptor(ex),
        sweep_timer(ex),
        watch_timer(ex),
        accept_timer(ex) {}
  const std::shared_ptr<wire::Core> core;
  const Server::Options options;
  std::shared_ptr<const TlsContext> tls;
  bool told_of_tls = false;  // in the log: a client speaks TLS where there is none
  Acceptor acceptor;
  std::uint16_t port = 0;
  Timer sweep_timer;
  Timer watch_timer;
  Timer accept_timer;  // waiting for file descriptors
};

// One connection, from its first byte to its last (incoming.cc).
Task<Ok> serve(std::shared_ptr<Listener> listener, wire::Stream stream);

}  // namespace mayfly::front
