// The byte side of Connection: reads of bodies, sends, deadlines, closing.
#include <algorithm>
#include <array>
#include <cerrno>

#include "gateway/http1/connection.h"
#include "gateway/wire/rules.h"

namespace mayfly::http1 {
namespace {

constexpr std::size_t kMinReadBytes = 4 * 1024;
constexpr std::size_t kGrowBytes = 1024 * 1024;
constexpr std::size_t kIdleKeepBytes = 16 * 1024;  // of each buffer, while idle

}  // namespace

void Connection::expire_if_due(std::uint64_t now) {
  if (idle_ && in_.empty() && deadline_ != UINT64_MAX && body_.capacity() > kIdleKeepBytes) core_->free(body_);
  if (deadline_ > now) return;
  expired_ = true;
  deadline_ = UINT64_MAX;
  stream_.cancel();
}

void Connection::drain() {
  if (!idle_) return;
  closing_ = true;
  stream_.cancel();
}

void Connection::client_gone() {
  closing_ = true;
  cancel_.fire();
}

void Connection::abort() {
  broken_ = true;
  if (handling_since_ != UINT64_MAX) cancel_.fire();
  stream_.close();
}

Task<Result<std::size_t>> Connection::read_some(std::span<char> into, std::chrono::milliseconds timeout) {
  if (broken_) co_return Error{Code::kCancelled, "client_closed", "the connection is closed"};
  // Bytes that come at once reach no sweep.
  if (core_->coarse_now_ns >= body_deadline_) co_return wire::body_late();
  expired_ = false;
  deadline_ = std::min(core_->due_in(timeout), body_deadline_);
  auto [ec, n] = co_await stream_.read_some(into);
  deadline_ = UINT64_MAX;
  if (!ec) co_return n;
  if (expired_ && core_->coarse_now_ns >= body_deadline_) co_return wire::body_late();
  if (expired_) co_return wire::body_stalled(timeout);
  co_return wire::client_closed();
}

// More raw body into in_, after the head: make_space_for_body() left room. Call with in_ empty.
Task<Result<std::size_t>> Connection::fill() {
  if (!out_.empty() && !co_await send({}))
    co_return Error{Code::kCancelled, "client_closed", "the connection is closed"};
  in_.rewind(body_start_);
  auto got = co_await read_some(in_.tail(), core_->limits.body_timeout);
  if (got.ok()) in_.commit(*got);
  co_return got;
}

Task<Result<std::span<const char>>> Connection::next() {
  for (;;) {
    auto piece = decoder_.step(in_.view());
    if (!piece.ok()) co_return piece.error();
    in_.consume(piece->consumed);
    if (!piece->data.empty()) co_return std::span<const char>(piece->data.data(), piece->data.size());
    if (piece->done) co_return std::span<const char>();
    if (want_continue_ && !co_await send_continue()) {
      co_return Error{Code::kCancelled, "client_closed", "the connection is closed"};
    }
    auto got = co_await fill();
    if (!got.ok()) co_return got.error();
  }
}

Task<Result<std::string_view>> Connection::read_identity_body(std::uint64_t length) {
  const bool in_place = length <= in_.size() + in_.tail().size();
  Buffer& buffer = in_place ? in_ : body_;
  if (!in_place) {
    body_.rewind(0);
    if (auto st = core_->grow(body_, in_.size(), caller_); !st.ok()) co_return std::move(st.error());
    body_.append(in_.view());
    in_.consume(in_.size());
  }
  while (buffer.size() < length) {
    // To twice the bytes received, from 1 MiB on: an announced length alone takes no memory.
    if (!in_place && body_.tail().empty()) {
      if (auto st =
              core_->grow(body_, std::min(length, std::max<std::uint64_t>(kGrowBytes, 2 * body_.size())), caller_);
          !st.ok())
        co_return std::move(st.error());
    }
    auto tail = buffer.tail();
    if (!in_place)
      tail = tail.first(static_cast<std::size_t>(std::min<std::uint64_t>(tail.size(), length - body_.size())));
    auto got = co_await read_some(tail, core_->limits.body_timeout);
    if (!got.ok()) co_return got.error();
    buffer.commit(*got);
  }
  const std::string_view body = buffer.view().substr(0, static_cast<std::size_t>(length));
  if (in_place) in_.consume(body.size());
  co_return body;
}

Task<Result<std::string_view>> Connection::read_decoded_body(std::uint64_t max_bytes) {
  body_.rewind(0);
  for (;;) {
    auto piece = co_await next();
    if (!piece.ok()) co_return piece.error();
    if (piece->empty()) co_return body_.view();
    if (body_.tail().size() < piece->size()) {
      const std::uint64_t wanted = std::max<std::uint64_t>(body_.size() + piece->size(), 2 * body_.size());
      if (auto st = core_->grow(body_, std::min(wanted, max_bytes), caller_); !st.ok()) co_return std::move(st.error());
    }
    body_.append({piece->data(), piece->size()});
  }
}

Task<bool> Connection::send_continue() {
  if (want_continue_) {
    want_continue_ = false;
    // A client that has begun to send does not wait.
    if (in_.empty()) out_.append("HTTP/1.1 100 Continue\r\n\r\n");
  }
  if (out_.empty()) co_return true;
  co_return co_await send({});
}

// Sends what is possible without waiting; `body` is shortened by what was sent of it.
bool Connection::send_now(std::string_view& body) {
  while (!broken_ && (!out_.empty() || !body.empty())) {
    std::array<iovec, 2> parts{iovec{out_.data(), out_.size()}, iovec{const_cast<char*>(body.data()), body.size()}};
    std::span<iovec> send = parts;
    if (out_.empty()) send = send.subspan(1);
    if (body.empty()) send = send.first(1);
    const ssize_t n = stream_.send_now(send);
    if (n < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
      broken_ = true;
      if (handling_since_ != UINT64_MAX) cancel_.fire();
      return false;
    }
    const std::size_t of_out = std::min(out_.size(), static_cast<std::size_t>(n));
    if (of_out == out_.size()) {
      out_.clear();
    } else {
      out_.erase(0, of_out);
    }
    body.remove_prefix(static_cast<std::size_t>(n) - of_out);
  }
  return !broken_;
}

// Sends out_ and then `body`, in one call if the kernel takes it.
Task<bool> Connection::send(std::string_view body) {
  sending_ = true;
  while (send_now(body) && !(out_.empty() && body.empty())) {
    if (!co_await wait_writable()) broken_ = true;
  }
  sending_ = false;
  co_return !broken_;
}

Task<bool> Connection::wait_writable() {
  expired_ = false;
  deadline_ = core_->due_in(core_->limits.body_timeout);
  auto [ec] = co_await stream_.wait_writable();
  deadline_ = UINT64_MAX;
  co_return !ec && !broken_;
}

// Answers gathered for pipelined requests leave when the reactor is next free, also if the next request's handler
// waits.
void Connection::post_flush() {
  if (flush_posted_) return;
  flush_posted_ = true;
  asio::post(core_->executor, [self = shared_from_this()] {
    self->flush_posted_ = false;
    std::string_view nothing;
    if (!self->sending_) self->send_now(nothing);
  });
}

// Closing a socket with unread input resets the connection and may destroy the answer on its way; so end our side, and
// read the client's to its end, for a short time.
Task<Ok> Connection::linger() {
  error_code ec;
  stream_.shutdown_send();
  const std::uint64_t end = core_->due_in(core_->limits.linger_timeout);
  in_.rewind(0);
  in_.make_room(kMinReadBytes);
  while (!ec && !broken_ && core_->coarse_now_ns < end) {
    deadline_ = end;
    const auto tail = in_.tail();
    auto [read_ec, n] = co_await stream_.read_some(tail);
    ec = read_ec;
  }
  deadline_ = UINT64_MAX;
  co_return Ok{};
}

}  // namespace mayfly::http1
