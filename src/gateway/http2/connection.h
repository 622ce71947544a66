// The socket of one HTTP/2 connection: reads for its Session, and sends what that has to send, all of one turn of the
// reactor in one call.
//
// Owner: its own coroutine run(), by shared_ptr; wire::Core lists it. Reactor thread only. At most kOutBytes wait for a
// client that does not read; nothing more is taken from the session until they are gone, and after body_timeout without
// a byte taken the connection is closed.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "gateway/http2/session.h"
#include "gateway/wire/core.h"
#include "gateway/wire/stream.h"

namespace mayfly::http2 {

class Connection final : public std::enable_shared_from_this<Connection>, public wire::Member {
 public:
  static constexpr std::size_t kOutBytes = 64 * 1024;

  // `first`: what was read of the stream already.
  Connection(std::shared_ptr<wire::Core> core, wire::Stream stream, wire::Buffer first);
  ~Connection() override;
  static Task<Ok> run(std::shared_ptr<Connection> self);

  void expire_if_due(std::uint64_t now) override;
  void drain() override;
  void abort() override;
  // A client that leaves is seen by the read that always waits.
  bool handling_since_before(std::uint64_t) const override { return false; }
  int native_handle() override { return stream_.native_handle(); }
  void client_gone() override {}

 private:
  bool done() const { return broken_ || (out_.empty() && session_->over()); }
  void feed();
  void post_flush();
  void flush();
  bool send_now();
  static Task<Ok> send_when_writable(std::shared_ptr<Connection> self);
  Task<Ok> linger();

  const std::shared_ptr<wire::Core> core_;
  wire::Stream stream_;
  wire::Place place_;
  const std::shared_ptr<Session> session_;
  wire::Buffer in_;
  std::string out_;
  std::uint64_t send_due_ = UINT64_MAX;  // while sending waits
  std::uint64_t linger_due_ = UINT64_MAX;
  bool blocked_ = false;  // send_when_writable() sends
  bool broken_ = false;
};

}  // namespace mayfly::http2
