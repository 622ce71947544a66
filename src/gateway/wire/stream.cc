#include "gateway/wire/stream.h"

#include <sys/socket.h>

#include <cerrno>

namespace mayfly::wire {

Stream::Stream(Socket socket) : socket_(std::move(socket)) {
  error_code ec;
  socket_.set_option(asio::ip::tcp::no_delay(true), ec);
  socket_.native_non_blocking(true, ec);
  const auto peer = socket_.remote_endpoint(ec).address();
  loopback_ = !ec && (peer.is_loopback() ||
                      (peer.is_v6() && peer.to_v6().is_v4_mapped() && peer.to_v6().to_bytes()[12] == 127));
}

ssize_t Stream::send_now(std::span<iovec> parts) {
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  for (;;) {
    const ssize_t n = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0 || errno != EINTR) return n;
  }
}

}  // namespace mayfly::wire
