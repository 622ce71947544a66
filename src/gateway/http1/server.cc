#include "gateway/http1/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <ctime>
#include <vector>

#include "gateway/http1/connection.h"

namespace mayfly::http1 {
namespace {

using boost::system::error_code;

void tick(ServerCore& core) {
  core.coarse_now_ns = now_ns();
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  core.date_line = fmt::format("Date: {}, {:02} {} {} {:02}:{:02}:{:02} GMT\r\n", kDays[utc.tm_wday], utc.tm_mday,
                               kMonths[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

std::chrono::milliseconds sweep_period(const Http1Server::Options& o) {
  const auto shortest = std::min({o.head_timeout, o.body_timeout, o.keep_alive_timeout, o.linger_timeout}) / 4;
  return std::clamp(shortest, std::chrono::milliseconds(10), std::chrono::milliseconds(1000));
}

Task<Ok> sweep(std::shared_ptr<ServerCore> core) {
  const auto period = sweep_period(core->options);
  while (!core->stopped) {
    core->sweep_timer.expires_after(period);
    co_await core->sweep_timer.async_wait(use_result);
    tick(*core);
    for (Connection* c : core->connections) c->expire_if_due(core->coarse_now_ns);
  }
  co_return Ok{};
}

// Handlers that take long are told when their client closes or resets the connection. Asking the kernel now and then
// costs short requests nothing. A client that only ends its own side counts as gone: it can't be told from one that
// closed.
Task<Ok> watch_clients(std::shared_ptr<ServerCore> core) {
  constexpr auto kPeriod = std::chrono::milliseconds(20);
  constexpr std::uint64_t kLongNs = 10'000'000;
  std::vector<pollfd> sockets;
  std::vector<Connection*> waiting;
  while (!core->stopped) {
    core->watch_timer.expires_after(core->connections.empty() ? std::chrono::milliseconds(500) : kPeriod);
    co_await core->watch_timer.async_wait(use_result);
    const std::uint64_t before = now_ns() - kLongNs;
    sockets.clear();
    waiting.clear();
    for (Connection* c : core->connections) {
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

// One try to say why, without waiting; then closed.
void turn_away(ServerCore& core, Socket& socket) {
  Response response;
  core.handler.render_error(
      make_error(Code::kUnavailable, "too_many_connections",
                 "the server has {} connections open, its limit; try again later or reuse connections",
                 core.options.max_connections),
      nullptr, response);
  const std::string answer = fmt::format(
      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}"
      "Connection: close\r\n\r\n{}",
      response.content_type, response.body.size(), core.date_line, response.body);
  [[maybe_unused]] const ssize_t sent =
      ::send(socket.native_handle(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  error_code ec;
  socket.shutdown(Socket::shutdown_send, ec);
}

bool out_of_resources(const error_code& ec) {
  return ec == asio::error::no_descriptors || ec == asio::error::no_buffer_space || ec == asio::error::no_memory ||
         ec == boost::system::errc::too_many_files_open_in_system;
}

Task<Ok> accept_all(std::shared_ptr<ServerCore> core) {
  while (!core->stopped && !core->draining) {
    Socket socket(core->executor);
    auto [ec] = co_await core->acceptor.async_accept(socket, use_result);
    if (core->stopped || core->draining) break;
    if (ec) {
      // Accepting again at once would spin until someone closes a descriptor.
      if (!out_of_resources(ec)) continue;
      core->accept_timer.expires_after(std::chrono::milliseconds(100));
      co_await core->accept_timer.async_wait(use_result);
      continue;
    }
    if (core->connections.size() >= core->options.max_connections) {
      turn_away(*core, socket);
      continue;
    }
    auto connection = std::make_shared<Connection>(core, std::move(socket));
    asio::co_spawn(core->executor, Connection::run(std::move(connection)), asio::detached);
  }
  co_return Ok{};
}

void stop(ServerCore& core) {
  error_code ec;
  core.stopped = core.draining = true;
  core.acceptor.close(ec);
  core.sweep_timer.cancel();
  core.watch_timer.cancel();
  core.accept_timer.cancel();
  for (Connection* c : core.connections) c->abort();
}

}  // namespace

Http1Server::Http1Server(std::shared_ptr<ServerCore> core) : core_(std::move(core)) {}

Http1Server::~Http1Server() { stop(*core_); }

Result<std::unique_ptr<Http1Server>> Http1Server::create(Executor executor, Options options, HttpHandler& handler) {
  error_code ec;
  const auto address = asio::ip::make_address(options.address, ec);
  if (ec) {
    return invalid("invalid_address",
                   "cannot listen on \"{}\": not an IP address; give one such as 127.0.0.1 or ::", options.address);
  }
  const asio::ip::tcp::endpoint endpoint(address, options.port);
  auto core = std::make_shared<ServerCore>(executor, std::move(options), handler);
  core->acceptor.open(endpoint.protocol(), ec);
  if (!ec) core->acceptor.set_option(Acceptor::reuse_address(true), ec);
  if (!ec) core->acceptor.bind(endpoint, ec);
  if (!ec) core->acceptor.listen(Acceptor::max_listen_connections, ec);
  if (!ec) core->port = core->acceptor.local_endpoint(ec).port();
  if (ec) {
    return make_error(Code::kUnavailable, "listen_failed",
                      "cannot listen on {} port {}: {}; choose another port or address", core->options.address,
                      core->options.port, ec.message());
  }
  tick(*core);
  return std::unique_ptr<Http1Server>(new Http1Server(std::move(core)));
}

std::uint16_t Http1Server::port() const { return core_->port; }

std::size_t Http1Server::connections() const { return core_->connections.size(); }

void Http1Server::start() {
  tick(*core_);
  asio::co_spawn(core_->executor, accept_all(core_), asio::detached);
  asio::co_spawn(core_->executor, sweep(core_), asio::detached);
  asio::co_spawn(core_->executor, watch_clients(core_), asio::detached);
}

Task<Ok> Http1Server::drain(TimePoint deadline) {
  std::shared_ptr<ServerCore> core = core_;
  core->draining = true;
  error_code ec;
  core->acceptor.close(ec);
  for (Connection* c : core->connections) c->close_if_idle();
  while (!core->connections.empty() && std::chrono::steady_clock::now() < deadline) {
    co_await core->emptied.wait_until(deadline);
  }
  stop(*core);
  co_return Ok{};
}

}  // namespace mayfly::http1
