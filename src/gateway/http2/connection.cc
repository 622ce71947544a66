#include "gateway/http2/connection.h"

#include <array>
#include <cerrno>

namespace mayfly::http2 {
namespace {

constexpr std::size_t kBulkReadBytes = 64 * 1024;
constexpr int kBulkReads = 4;  // one after the other, before the client's window opens and others have their turn

}  // namespace

Connection::Connection(std::shared_ptr<wire::Core> core, wire::Stream stream, wire::Buffer first)
    : core_(std::move(core)),
      stream_(std::move(stream)),
      place_(*core_, this),
      session_(std::make_shared<Session>(core_, stream_.loopback(), stream_.peer())),
      in_(std::move(first)) {
  session_->on_output([](void* self) { static_cast<Connection*>(self)->post_flush(); }, this);
}

Connection::~Connection() {
  session_->on_output(nullptr, nullptr);
  session_->close();
}

Task<Ok> Connection::run(std::shared_ptr<Connection> self) {
  if (self->core_->draining) self->session_->drain();
  for (;;) {
    self->feed();
    self->flush();
    if (self->done()) break;
    auto [ec, n] = co_await self->stream_.read_some(self->in_.tail());
    if (self->done()) break;
    if (ec == asio::error::operation_aborted) n = 0;  // flush() asks whether it is over
    if (ec && ec != asio::error::operation_aborted) {
      self->broken_ = true;
      break;
    }
    self->in_.commit(n);
  }
  self->session_->close();
  if (!self->broken_) co_await self->linger();
  self->abort();
  co_return Ok{};
}

// What was read, and what has arrived behind it.
void Connection::feed() {
  for (int reads = 1;; ++reads) {
    session_->feed(in_.view());
    const bool full = in_.tail().empty();
    in_.rewind(0);
    if (!full) return;
    if (in_.capacity() < kBulkReadBytes) in_.make_room(kBulkReadBytes);
    if (reads == kBulkReads) return;
    const std::size_t n = stream_.read_now(in_.tail());
    if (n == 0) return;
    in_.commit(n);
  }
}

// Many answers become ready in one turn of the reactor, each with a coroutine of its own: they leave together.
void Connection::post_flush() {
  asio::post(core_->executor, [self = shared_from_this()] { self->flush(); });
}

void Connection::flush() {
  if (blocked_ || broken_ || linger_due_ != UINT64_MAX) return;
  if (!send_now() && !broken_) {
    blocked_ = true;
    send_due_ = core_->due_in(core_->limits.body_timeout);
    asio::co_spawn(core_->executor, send_when_writable(shared_from_this()), asio::detached);
  }
  if (done()) stream_.cancel();  // run() ends
}

// Sends until there is nothing more (true) or the kernel takes no more.
bool Connection::send_now() {
  for (;;) {
    if (out_.size() < kOutBytes) session_->pump(out_, kOutBytes);
    if (out_.empty()) return true;
    std::array<iovec, 1> parts{iovec{out_.data(), out_.size()}};
    const ssize_t n = stream_.send_now(parts);
    if (n < 0) {
      broken_ = errno != EAGAIN && errno != EWOULDBLOCK;
      return false;
    }
    out_.erase(0, static_cast<std::size_t>(n));
    if (blocked_) send_due_ = core_->due_in(core_->limits.body_timeout);
  }
}

Task<Ok> Connection::send_when_writable(std::shared_ptr<Connection> self) {
  for (;;) {
    auto [ec] = co_await self->stream_.wait_writable();
    if (self->broken_) break;
    if (ec && ec != asio::error::operation_aborted) self->broken_ = true;
    if (self->broken_ || self->send_now() || self->broken_) break;
  }
  self->blocked_ = false;
  self->send_due_ = UINT64_MAX;
  if (self->done()) self->stream_.cancel();
  co_return Ok{};
}

void Connection::expire_if_due(std::uint64_t now) {
  if (now >= linger_due_) return stream_.cancel();
  if (now >= send_due_) {
    broken_ = true;
    return stream_.cancel();
  }
  session_->expire_if_due(now);
}

void Connection::drain() { session_->drain(); }

void Connection::abort() {
  broken_ = true;
  session_->close();
  stream_.close();
}

// Closing a socket with unread input resets the connection and may destroy what is on its way, the GOAWAY above all.
Task<Ok> Connection::linger() {
  stream_.shutdown_send();
  linger_due_ = core_->due_in(core_->limits.linger_timeout);
  while (!broken_ && core_->coarse_now_ns < linger_due_) {
    in_.rewind(0);
    auto [ec, n] = co_await stream_.read_some(in_.tail());
    if (ec) break;
  }
  co_return Ok{};
}

}  // namespace mayfly::http2
