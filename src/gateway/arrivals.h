// Which endpoints the clients of an address have asked, so that a connection from there can wake them before it has
// said anything: the handshakes of TCP and TLS and the sending of the request are then time in which an instance
// starts. Only endpoints whose owner wants it (`wake_on: connection`). Addresses whose connections are seldom followed
// by a request (health checks) soon wake nothing. Bounded; one reactor; times are monotonic nanoseconds.
#pragma once
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mayfly {

class Arrivals {
 public:
  static constexpr std::size_t kMaxPeers = 4096, kMaxNames = 4;  // the latest ones
  static constexpr std::uint64_t kKeptNs = 3'600'000'000'000;    // since the last request
  struct Name {
    std::string tenant, name;
  };

  // The peer (wire::Stream::peer) asked this endpoint.
  void note(std::uint64_t peer, std::string_view tenant, std::string_view name, std::uint64_t now_ns);
  // It has connected: what to wake. Valid until the next call.
  const std::vector<const Name*>& connected(std::uint64_t peer, std::uint64_t now_ns);
  std::size_t peers() const { return peers_.size(); }

 private:
  struct Asked {
    Name name;
    std::uint64_t last_ns = 0;
    bool connected = false;  // since then
    double followed = 1;     // the part of the latest connections that a request followed
  };
  struct Peer {
    std::uint64_t id = 0;
    std::vector<Asked> asked;
  };
  std::list<Peer> peers_;  // the latest first
  std::unordered_map<std::uint64_t, std::list<Peer>::iterator> by_id_;
  std::vector<const Name*> wake_;
};

}  // namespace mayfly
