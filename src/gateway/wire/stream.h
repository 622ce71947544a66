// The byte stream under an HTTP connection: a TCP socket, plain or under TLS. The plain path costs one branch on a
// pointer: what is awaited then is the socket's own operation.
//
// Owner: one connection; reactor thread only. One read and one wait for writing at a time. cancel() ends both with
// operation_aborted.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <tuple>

#include "async/async.h"
#include "crypto/tls.h"

namespace mayfly::wire {

using Socket = asio::basic_stream_socket<asio::ip::tcp, Executor>;
using error_code = boost::system::error_code;

class Stream {
 public:
  explicit Stream(Socket socket);

  bool loopback() const { return loopback_; }   // the peer's address is a loopback address
  std::uint64_t peer() const { return peer_; }  // by its address, for budgets; see core.h
  int native_handle() { return socket_.native_handle(); }
  // Whether bytes go through TLS. start_tls() comes first, before anything was read.
  bool secure() const { return tls_ != nullptr; }
  Status start_tls(const TlsContext& context);
  Task<error_code> handshake();
  std::string_view protocol() const { return tls_->protocol(); }  // by ALPN
  // The first byte, left where it is; an error if none comes.
  Task<std::tuple<error_code, char>> peek();
  // At least one byte, or an error; asio::error::eof at the end.
  Task<std::tuple<error_code, std::size_t>> read_some(std::span<char> into) {
    if (tls_) return read_tls(into);
    return socket_.async_read_some(asio::buffer(into.data(), into.size()), use_result);
  }
  // What has arrived, without waiting; 0: nothing, or not to be had this way (TLS, the end, an error).
  std::size_t read_now(std::span<char> into);
  // What the kernel takes at once, as sendmsg(2): -1 with errno EAGAIN if nothing.
  ssize_t send_now(std::span<iovec> parts) { return tls_ ? send_tls(parts) : send_plain(parts); }
  Task<std::tuple<error_code>> wait_writable() { return socket_.async_wait(Socket::wait_write, use_result); }
  void cancel() {
    error_code ec;
    socket_.cancel(ec);
  }
  void shutdown_send() {
    error_code ec;
    if (tls_) tls_->shut_down();
    socket_.shutdown(Socket::shutdown_send, ec);
  }
  void close() {
    error_code ec;
    socket_.close(ec);
  }

 private:
  static constexpr std::size_t kRecordBytes = 16 * 1024;
  Task<std::tuple<error_code, std::size_t>> read_tls(std::span<char> into);
  Task<std::tuple<error_code>> wait_for(TlsSession::Want want);
  ssize_t send_plain(std::span<iovec> parts);
  ssize_t send_tls(std::span<iovec> parts);
  Socket socket_;
  std::unique_ptr<TlsSession> tls_;
  std::uint64_t peer_ = 0;
  bool loopback_ = false;
};

}  // namespace mayfly::wire
