// A connection of which nobody knows yet what it speaks: waits for its first bytes. Owner: serve()'s coroutine.
// What it read is passed on, so that nothing is read twice.
#pragma once
#include <string_view>

#include "gateway/front/listener.h"

namespace mayfly::front {

inline constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";  // RFC 9113 section 3.4

class Incoming final : public wire::Member {
 public:
  enum class Speaks : std::uint8_t { kHttp1, kHttp2, kTlsNotServed, kNothing };

  Incoming(Listener& listener, wire::Stream stream)
      : listener_(listener), stream_(std::move(stream)), place_(*listener.core, this) {}
  // Does the handshake where the client speaks TLS. kNothing: it closed, or sent nothing in time.
  Task<Speaks> listen();
  // Sends `answer`, as far as the kernel takes it at once, and reads the client's bytes to their end for a short time:
  // closing with unread ones would destroy the answer on its way.
  Task<Ok> refuse(std::string_view answer);
  wire::Stream& stream() { return stream_; }
  wire::Buffer& read() { return read_; }
  std::uint64_t head_deadline() const { return deadline_; }

  void expire_if_due(std::uint64_t now) override;
  void drain() override;
  void abort() override;
  bool handling_since_before(std::uint64_t) const override { return false; }
  int native_handle() override { return stream_.native_handle(); }
  void client_gone() override {}

 private:
  Task<Speaks> listen_secure();
  Task<Speaks> read_first();
  Listener& listener_;
  wire::Stream stream_;
  wire::Place place_;
  wire::Buffer read_;
  std::uint64_t deadline_ = 0;  // of the wait for the next byte
  bool closing_ = false;
};

}  // namespace mayfly::front
