#include "gateway/front/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "gateway/front/listener.h"

namespace mayfly::front {
namespace {

using wire::Member;

std::chrono::milliseconds sweep_period(const wire::Limits& o) {
  const auto shortest = std::min({o.head_timeout, o.body_timeout, o.keep_alive_timeout, o.linger_timeout}) / 4;
  return std::clamp(shortest, std::chrono::milliseconds(10), std::chrono::milliseconds(1000));
}

Task<Ok> sweep(std::shared_ptr<Listener> listener) {
  wire::Core* core = listener->core.get();
  const auto period = sweep_period(core->limits);
  while (!core->stopped) {
    listener->sweep_timer.expires_after(period);
    co_await listener->sweep_timer.async_wait(use_result);
    core->tick();
    for (Member* c : core->connections) c->expire_if_due(core->coarse_now_ns);
  }
  co_return Ok{};
}

// Handlers that take long are told when their client closes or resets the connection. Asking the kernel now and then
// costs short requests nothing. A client that only ends its own side counts as gone: it can't be told from one that
// closed.
Task<Ok> watch_clients(std::shared_ptr<Listener> listener) {
  wire::Core* core = listener->core.get();
  constexpr auto kPeriod = std::chrono::milliseconds(20);
  constexpr std::uint64_t kLongNs = 10'000'000;
  std::vector<pollfd> sockets;
  std::vector<Member*> waiting;
  while (!core->stopped) {
    listener->watch_timer.expires_after(core->connections.empty() ? std::chrono::milliseconds(500) : kPeriod);
    co_await listener->watch_timer.async_wait(use_result);
    const std::uint64_t before = now_ns() - kLongNs;
    sockets.clear();
    waiting.clear();
    for (Member* c : core->connections) {
      if (!c->handling_since_before(before)) continue;
      sockets.push_back({c->native_handle(), POLLRDHUP, 0});
      waiting.push_back(c);
    }
    if (sockets.empty() || ::poll(sockets.data(), sockets.size(), 0) <= 0) continue;
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      if (sockets[i].revents != 0) waiting[i]->client_gone();
    }
  }
  co_return Ok{};
}

// One try to say why, without waiting; then closed. A client that speaks TLS or HTTP/2 sees a connection that closes.
void turn_away(wire::Core& core, wire::Socket& socket) {
  Response response;
  core.handler.render_error(
      make_error(Code::kUnavailable, "too_many_connections",
                 "the server has {} connections open, its limit; try again later or reuse connections",
                 core.limits.max_connections),
      nullptr, response);
  const std::string answer = fmt::format(
      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}"
      "Connection: close\r\n\r\n{}",
      response.content_type, response.body.size(), core.date_line, response.body);
  [[maybe_unused]] const ssize_t sent =
      ::send(socket.native_handle(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  error_code ec;
  socket.shutdown(wire::Socket::shutdown_send, ec);
}

bool out_of_resources(const error_code& ec) {
  return ec == asio::error::no_descriptors || ec == asio::error::no_buffer_space || ec == asio::error::no_memory ||
         ec == boost::system::errc::too_many_files_open_in_system;
}

Task<Ok> accept_all(std::shared_ptr<Listener> listener) {
  wire::Core* core = listener->core.get();
  while (!core->stopped && !core->draining) {
    wire::Socket socket(core->executor);
    auto [ec] = co_await listener->acceptor.async_accept(socket, use_result);
    if (core->stopped || core->draining) break;
    if (ec) {
      // Accepting again at once would spin until someone closes a descriptor.
      if (!out_of_resources(ec)) continue;
      listener->accept_timer.expires_after(std::chrono::milliseconds(100));
      co_await listener->accept_timer.async_wait(use_result);
      continue;
    }
    if (core->connections.size() >= core->limits.max_connections) {
      turn_away(*core, socket);
      continue;
    }
    asio::co_spawn(core->executor, serve(listener, wire::Stream(std::move(socket))), asio::detached);
  }
  co_return Ok{};
}

void stop(Listener& listener) {
  error_code ec;
  wire::Core& core = *listener.core;
  core.stopped = core.draining = true;
  listener.acceptor.close(ec);
  listener.sweep_timer.cancel();
  listener.watch_timer.cancel();
  listener.accept_timer.cancel();
  for (Member* c : core.connections) c->abort();
}

}  // namespace

Server::Server(std::shared_ptr<Listener> listener) : listener_(std::move(listener)) {}

Server::~Server() { stop(*listener_); }

Result<std::unique_ptr<Server>> Server::create(Executor executor, Options options, HttpHandler& handler) {
  error_code ec;
  const auto address = asio::ip::make_address(options.address, ec);
  if (ec) {
    return invalid("invalid_address",
                   "cannot listen on \"{}\": not an IP address; give one such as 127.0.0.1 or ::", options.address);
  }
  const asio::ip::tcp::endpoint endpoint(address, options.port);
  auto listener = std::make_shared<Listener>(executor, std::move(options), handler);
  Acceptor& acceptor = listener->acceptor;
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) acceptor.set_option(Acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(endpoint, ec);
  if (!ec) acceptor.listen(Acceptor::max_listen_connections, ec);
  if (!ec) listener->port = acceptor.local_endpoint(ec).port();
  if (ec) {
    return make_error(Code::kUnavailable, "listen_failed",
                      "cannot listen on {} port {}: {}; choose another port or address", listener->options.address,
                      listener->options.port, ec.message());
  }
  listener->core->tick();
  return std::unique_ptr<Server>(new Server(std::move(listener)));
}

std::uint16_t Server::port() const { return listener_->port; }

std::size_t Server::connections() const { return listener_->core->connections.size(); }

void Server::start() {
  const Executor& executor = listener_->core->executor;
  listener_->core->tick();
  asio::co_spawn(executor, accept_all(listener_), asio::detached);
  asio::co_spawn(executor, sweep(listener_), asio::detached);
  asio::co_spawn(executor, watch_clients(listener_), asio::detached);
}

void Server::replace_tls(std::shared_ptr<const TlsContext> tls) { listener_->tls = std::move(tls); }

Task<Ok> Server::drain(TimePoint deadline) {
  std::shared_ptr<Listener> listener = listener_;
  wire::Core& core = *listener->core;
  core.draining = true;
  error_code ec;
  listener->acceptor.close(ec);
  for (Member* c : core.connections) c->drain();
  while (!core.connections.empty() && std::chrono::steady_clock::now() < deadline) {
    co_await core.emptied.wait_until(deadline);
  }
  stop(*listener);
  co_return Ok{};
}

}  // namespace mayfly::front
