#include "gateway/front/incoming.h"

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "gateway/http1/connection.h"
#include "gateway/http2/connection.h"

namespace mayfly::front {
namespace {

constexpr std::size_t kReadBytes = 16 * 1024;
constexpr char kTlsHandshake = 0x16;                                      // the first byte of a ClientHello
constexpr std::string_view kTlsAlert("\x15\x03\x03\x00\x02\x02\x28", 7);  // fatal, handshake_failure
// An empty SETTINGS, and GOAWAY with INADEQUATE_SECURITY.
constexpr std::string_view kGoaway("\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0c", 26);

std::string https_required(Listener& listener) {
  Response response;
  listener.core->handler.render_error(
      invalid("https_required",
              "this port speaks HTTPS, and clients of other hosts must: ask https://, or start the server with "
              "--tls-allow-plain"),
      nullptr, response);
  return fmt::format(
      "HTTP/1.1 400 Bad Request\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}{}Connection: close\r\n\r\n{}",
      response.content_type, response.body.size(), listener.core->date_line, response.headers, response.body);
}

void tell_of_tls(Listener& listener) {
  if (std::exchange(listener.told_of_tls, true) || !listener.options.log) return;
  listener.options.log("tls_not_served",
                       "a client speaks TLS, and this server has no certificate; start it with --tls-cert and "
                       "--tls-key, or let the client ask http://; further ones are not logged");
}

}  // namespace

Task<Incoming::Speaks> Incoming::listen() {
  const wire::Core& core = *listener_.core;
  read_.make_room(kReadBytes);
  deadline_ = core.due_in(core.limits.keep_alive_timeout);
  if (listener_.tls) {
    auto [ec, first] = co_await stream_.peek();
    if (ec || closing_) co_return Speaks::kNothing;
    if (first == kTlsHandshake) co_return co_await listen_secure();
  }
  const Speaks speaks = co_await read_first();
  if (speaks == Speaks::kHttp1 && !read_.empty() && read_.view().front() == kTlsHandshake)
    co_return Speaks::kTlsNotServed;
  co_return speaks;
}

Task<Incoming::Speaks> Incoming::listen_secure() {
  const wire::Core& core = *listener_.core;
  if (!stream_.start_tls(*listener_.tls).ok()) co_return Speaks::kNothing;
  deadline_ = core.due_in(core.limits.head_timeout);
  const error_code ec = co_await stream_.handshake();
  if (ec || closing_) co_return Speaks::kNothing;
  deadline_ = 0;
  if (stream_.protocol() == "h2") co_return Speaks::kHttp2;
  if (stream_.protocol() == "http/1.1") co_return Speaks::kHttp1;
  co_return co_await read_first();
}

Task<Incoming::Speaks> Incoming::read_first() {
  const wire::Core& core = *listener_.core;
  for (;;) {
    if (closing_ || core.draining) co_return Speaks::kNothing;
    if (read_.empty()) deadline_ = core.due_in(core.limits.keep_alive_timeout);
    auto [ec, n] = co_await stream_.read_some(read_.tail());
    if (closing_) co_return Speaks::kNothing;
    // A few bytes that could still become either: HTTP/1 says that its head is late, or that the client is gone.
    if (ec) co_return read_.empty() ? Speaks::kNothing : Speaks::kHttp1;
    if (read_.empty()) deadline_ = core.due_in(core.limits.head_timeout);
    read_.commit(n);
    const std::string_view have = read_.view();
    if (have.starts_with(kHttp2Preface)) co_return Speaks::kHttp2;
    if (!kHttp2Preface.starts_with(have)) co_return Speaks::kHttp1;
  }
}

Task<Ok> Incoming::refuse(std::string_view answer) {
  const wire::Core& core = *listener_.core;
  std::array<iovec, 1> parts{iovec{const_cast<char*>(answer.data()), answer.size()}};
  static_cast<void>(stream_.send_now(parts));
  stream_.shutdown_send();
  deadline_ = core.due_in(core.limits.linger_timeout);
  while (!closing_ && core.coarse_now_ns < deadline_) {
    read_.rewind(0);
    auto [ec, n] = co_await stream_.read_some(read_.tail());
    if (ec) break;
  }
  co_return Ok{};
}

void Incoming::expire_if_due(std::uint64_t now) {
  if (deadline_ == 0 || deadline_ > now) return;
  stream_.cancel();
}

void Incoming::drain() {
  closing_ = true;
  stream_.cancel();
}

void Incoming::abort() {
  closing_ = true;
  stream_.close();
}

Task<Ok> serve(std::shared_ptr<Listener> listener, wire::Stream accepted) {
  listener->core->handler.on_connect(accepted.peer());
  std::optional<Incoming> incoming(std::in_place, *listener, std::move(accepted));
  const Incoming::Speaks speaks = co_await incoming->listen();
  if (speaks == Incoming::Speaks::kNothing) co_return Ok{};
  if (speaks == Incoming::Speaks::kTlsNotServed) {
    tell_of_tls(*listener);
    co_return co_await incoming->refuse(kTlsAlert);
  }
  const bool plain = !incoming->stream().secure();
  if (plain && listener->tls && !listener->options.allow_plain && !incoming->stream().loopback()) {
    const std::string answer = speaks == Incoming::Speaks::kHttp2 ? std::string(kGoaway) : https_required(*listener);
    co_return co_await incoming->refuse(answer);
  }
  wire::Stream stream = std::move(incoming->stream());
  wire::Buffer read = std::move(incoming->read());
  const std::uint64_t head_deadline = incoming->head_deadline();
  if (speaks == Incoming::Speaks::kHttp2) {
    auto connection = std::make_shared<http2::Connection>(listener->core, std::move(stream), std::move(read));
    incoming.reset();
    co_return co_await http2::Connection::run(std::move(connection));
  }
  auto connection =
      std::make_shared<http1::Connection>(listener->core, std::move(stream), std::move(read), head_deadline);
  incoming.reset();
  co_return co_await http1::Connection::run(std::move(connection));
}

}  // namespace mayfly::front
