#include "gateway/wire/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace mayfly::wire {

namespace {

std::uint64_t caller_of(const asio::ip::address& peer) {
  if (peer.is_v4()) return peer.to_v4().to_uint();
  const auto bytes = peer.to_v6().to_bytes();
  std::uint64_t network = 0;
  for (std::size_t i = 0; i < 8; ++i) network = network << 8 | bytes[i];
  if (!peer.to_v6().is_v4_mapped()) return network;
  std::uint64_t v4 = 0;
  for (std::size_t i = 12; i < 16; ++i) v4 = v4 << 8 | bytes[i];
  return v4;
}

}  // namespace

Stream::Stream(Socket socket) : socket_(std::move(socket)) {
  error_code ec;
  socket_.set_option(asio::ip::tcp::no_delay(true), ec);
  socket_.native_non_blocking(true, ec);
  const auto peer = socket_.remote_endpoint(ec).address();
  if (!ec) peer_ = caller_of(peer);
  loopback_ = !ec && (peer.is_loopback() ||
                      (peer.is_v6() && peer.to_v6().is_v4_mapped() && peer.to_v6().to_bytes()[12] == 127));
}

ssize_t Stream::send_plain(std::span<iovec> parts) {
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  for (;;) {
    const ssize_t n = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0 || errno != EINTR) return n;
  }
}

std::size_t Stream::read_now(std::span<char> into) {
  if (tls_) return 0;
  const ssize_t n = ::recv(socket_.native_handle(), into.data(), into.size(), MSG_DONTWAIT);
  return n > 0 ? static_cast<std::size_t>(n) : 0;
}

Status Stream::start_tls(const TlsContext& context) {
  auto session = TlsSession::create(context, socket_.native_handle());
  if (!session.ok()) return std::move(session.error());
  tls_ = std::move(*session);
  return Ok{};
}

Task<std::tuple<error_code>> Stream::wait_for(TlsSession::Want want) {
  return socket_.async_wait(want == TlsSession::Want::kWrite ? Socket::wait_write : Socket::wait_read, use_result);
}

Task<error_code> Stream::handshake() {
  for (;;) {
    const TlsSession::Want want = tls_->handshake();
    if (want == TlsSession::Want::kNothing) co_return error_code();
    if (want == TlsSession::Want::kEnd || want == TlsSession::Want::kFailed)
      co_return error_code(asio::error::connection_aborted);
    auto [ec] = co_await wait_for(want);
    if (ec) co_return ec;
  }
}

Task<std::tuple<error_code, char>> Stream::peek() {
  for (;;) {
    char first = 0;
    const ssize_t n = ::recv(socket_.native_handle(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 1) co_return std::tuple(error_code(), first);
    if (n == 0) co_return std::tuple(error_code(asio::error::eof), '\0');
    if (errno != EAGAIN && errno != EINTR) co_return std::tuple(error_code(asio::error::connection_reset), '\0');
    auto [ec] = co_await wait_for(TlsSession::Want::kRead);
    if (ec) co_return std::tuple(ec, '\0');
  }
}

Task<std::tuple<error_code, std::size_t>> Stream::read_tls(std::span<char> into) {
  for (;;) {
    const TlsSession::Done done = tls_->read(into);
    if (done.want == TlsSession::Want::kNothing) co_return std::tuple(error_code(), done.bytes);
    if (done.want == TlsSession::Want::kEnd) co_return std::tuple(error_code(asio::error::eof), std::size_t{0});
    if (done.want == TlsSession::Want::kFailed)
      co_return std::tuple(error_code(asio::error::connection_reset), std::size_t{0});
    auto [ec] = co_await wait_for(done.want);
    if (ec) co_return std::tuple(ec, std::size_t{0});
  }
}

// The parts become records; small ones share one. A write that was not taken is repeated with at least its bytes, since
// callers put new ones only at the end.
ssize_t Stream::send_tls(std::span<iovec> parts) {
  std::array<char, kRecordBytes> together;
  std::span<const char> bytes(static_cast<const char*>(parts[0].iov_base), parts[0].iov_len);
  if (parts.size() > 1 && bytes.size() < together.size()) {
    const std::size_t more = std::min(together.size() - bytes.size(), parts[1].iov_len);
    std::memcpy(together.data(), bytes.data(), bytes.size());
    std::memcpy(together.data() + bytes.size(), parts[1].iov_base, more);
    bytes = {together.data(), bytes.size() + more};
  }
  const TlsSession::Done done = tls_->write(bytes.first(std::min(bytes.size(), kRecordBytes)));
  if (done.want == TlsSession::Want::kNothing) return static_cast<ssize_t>(done.bytes);
  errno = done.want == TlsSession::Want::kFailed || done.want == TlsSession::Want::kEnd ? EPIPE : EAGAIN;
  return -1;
}

}  // namespace mayfly::wire
