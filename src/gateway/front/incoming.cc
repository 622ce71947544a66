#include "gateway/front/incoming.h"

#include <optional>

#include "gateway/http1/connection.h"
#include "gateway/http2/connection.h"

namespace mayfly::front {
namespace {

constexpr std::size_t kReadBytes = 16 * 1024;

}  // namespace

Task<Incoming::Speaks> Incoming::listen() {
  const wire::Core& core = *listener_.core;
  read_.make_room(kReadBytes);
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
  std::optional<Incoming> incoming(std::in_place, *listener, std::move(accepted));
  const Incoming::Speaks speaks = co_await incoming->listen();
  if (speaks == Incoming::Speaks::kNothing) co_return Ok{};
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
