// What a fetch may connect to: a pure decision over host, port and the address that the name was resolved to. It is
// asked for each socket (so a name that resolves differently the second time gains nothing) and for each redirect.
// By default: https to public addresses. Everything else only to hosts that were allowed by name.
#pragma once
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

class SourcePolicy {
 public:
  // HOST, HOST:PORT, [IPV6]:PORT, or s3://BUCKET[/PREFIX]. Errors: invalid_source.
  Status allow(std::string_view rule);
  // The user's own machine and network: private addresses, and plain HTTP to loopback; any bucket.
  void trust_own_network() { own_network_ = true; }

  // Before anything is resolved. Errors: source_not_allowed.
  Status check_url(std::string_view scheme, std::string_view host, std::uint16_t port) const;
  Status check_bucket(std::string_view bucket, std::string_view key) const;
  // Of a socket that is about to be connected.
  bool allows_address(std::string_view host, std::uint16_t port, const sockaddr& address) const;

 private:
  struct Host {
    std::string name;
    std::uint16_t port = 0;  // 0: any
  };
  struct Bucket {
    std::string name, prefix;
  };
  bool is_named(std::string_view host, std::uint16_t port) const;
  std::vector<Host> hosts_;
  std::vector<Bucket> buckets_;
  bool own_network_ = false;
};

// Reachable from anywhere: none of the special-purpose ranges of RFC 6890 and its successors, nor an IPv6 form of one.
bool is_public_address(const sockaddr& address);

}  // namespace mayfly
