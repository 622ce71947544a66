// The byte stream under an HTTP connection: a TCP socket, plain or under TLS. The plain path costs one branch on a
// pointer: what is awaited then is the socket's own operation.
//
// Owner: one connection; reactor thread only. One read and one wait for writing at a time. cancel() ends both with
// operation_aborted.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include <span>
#include <tuple>

#include "async/async.h"

namespace mayfly::wire {

using Socket = asio::basic_stream_socket<asio::ip::tcp, Executor>;
using error_code = boost::system::error_code;

class Stream {
 public:
  explicit Stream(Socket socket);

  bool loopback() const { return loopback_; }  // the peer's address is a loopback address
  int native_handle() { return socket_.native_handle(); }
  // At least one byte, or an error; asio::error::eof at the end.
  Task<std::tuple<error_code, std::size_t>> read_some(std::span<char> into) {
    return socket_.async_read_some(asio::buffer(into.data(), into.size()), use_result);
  }
  // What the kernel takes at once, as sendmsg(2): -1 with errno EAGAIN if nothing.
  ssize_t send_now(std::span<iovec> parts);
  Task<std::tuple<error_code>> wait_writable() { return socket_.async_wait(Socket::wait_write, use_result); }
  void cancel() {
    error_code ec;
    socket_.cancel(ec);
  }
  void shutdown_send() {
    error_code ec;
    socket_.shutdown(Socket::shutdown_send, ec);
  }
  void close() {
    error_code ec;
    socket_.close(ec);
  }

 private:
  Socket socket_;
  bool loopback_ = false;
};

}  // namespace mayfly::wire
