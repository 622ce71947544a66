#include "fetch/policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>

namespace mayfly {
namespace {

struct Range4 {
  std::uint32_t network;
  int bits;
};
constexpr std::uint32_t ip4(std::uint32_t a, std::uint32_t b, std::uint32_t c = 0) {
  return a << 24 | b << 16 | c << 8;
}
// The IPv4 Special-Purpose Address Registry, multicast and the reserved rest.
constexpr Range4 kSpecial4[] = {
    {ip4(0, 0), 8},     {ip4(10, 0), 8},         {ip4(100, 64), 10},     {ip4(127, 0), 8},       {ip4(169, 254), 16},
    {ip4(172, 16), 12}, {ip4(192, 0, 0), 24},    {ip4(192, 0, 2), 24},   {ip4(192, 88, 99), 24}, {ip4(192, 168), 16},
    {ip4(198, 18), 15}, {ip4(198, 51, 100), 24}, {ip4(203, 0, 113), 24}, {ip4(224, 0), 4},       {ip4(240, 0), 4}};

bool is_public4(std::uint32_t address) {
  return std::none_of(std::begin(kSpecial4), std::end(kSpecial4), [address](const Range4& r) {
    return (address >> (32 - r.bits)) == (r.network >> (32 - r.bits));
  });
}

// Only 2000::/3 is handed out as global unicast; of it 2001::/23 is for protocols (Teredo and others hold IPv4
// addresses), 2001:db8::/32 and 3fff::/20 are for documentation, 2002::/16 holds IPv4 addresses.
bool is_public6(const unsigned char* b) {
  if ((b[0] & 0xe0) != 0x20) return false;
  if (b[0] == 0x20 && b[1] == 0x01 && (b[2] & 0xfe) == 0) return false;
  if (b[0] == 0x20 && b[1] == 0x01 && b[2] == 0x0d && b[3] == 0xb8) return false;
  if (b[0] == 0x3f && b[1] == 0xff && (b[2] & 0xf0) == 0) return false;
  return !(b[0] == 0x20 && b[1] == 0x02);
}

bool is_loopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) >> 24) == 127;
  }
  return address.sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

bool is_loopback_name(std::string_view host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::string lower(std::string_view s) {
  std::string out(s);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

}  // namespace

bool is_public_address(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    return is_public4(ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr));
  }
  if (address.sa_family != AF_INET6) return false;
  const in6_addr& a = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&a)) {
    std::uint32_t v4 = 0;
    std::memcpy(&v4, a.s6_addr + 12, sizeof v4);
    return is_public4(ntohl(v4));
  }
  return is_public6(a.s6_addr);
}

Status SourcePolicy::allow(std::string_view rule) {
  if (rule.starts_with("s3://")) {
    const std::string_view rest = rule.substr(5);
    const auto slash = rest.find('/');
    Bucket b{std::string(rest.substr(0, slash)),
             slash == std::string_view::npos ? "" : std::string(rest.substr(slash + 1))};
    if (b.name.empty()) return invalid("invalid_source", "allowed source \"{}\": expected s3://BUCKET[/PREFIX]", rule);
    buckets_.push_back(std::move(b));
    return Ok{};
  }
  std::string_view name = rule, port;
  if (rule.starts_with('[')) {
    const auto end = rule.find(']');
    name = rule.substr(1, end == std::string_view::npos ? 0 : end - 1);
    if (end != std::string_view::npos && rule.substr(end + 1).starts_with(':')) port = rule.substr(end + 2);
  } else if (const auto colon = rule.find(':'); colon != std::string_view::npos && colon == rule.rfind(':')) {
    name = rule.substr(0, colon);
    port = rule.substr(colon + 1);
  }
  Host h{lower(name), 0};
  if (!port.empty()) {
    const auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), h.port);
    if (ec != std::errc() || end != port.data() + port.size() || h.port == 0) h.name.clear();
  }
  if (h.name.empty() || h.name.find('/') != std::string::npos)
    return invalid("invalid_source",
                   "allowed source \"{}\": expected HOST, HOST:PORT, [IPV6]:PORT or s3://BUCKET[/PREFIX]", rule);
  hosts_.push_back(std::move(h));
  return Ok{};
}

bool SourcePolicy::is_named(std::string_view host, std::uint16_t port) const {
  return std::any_of(hosts_.begin(), hosts_.end(),
                     [&](const Host& h) { return h.name == host && (h.port == 0 || h.port == port); });
}

Status SourcePolicy::check_url(std::string_view scheme, std::string_view host, std::uint16_t port) const {
  if (scheme == "https" || is_named(host, port) || (own_network_ && is_loopback_name(host))) return Ok{};
  return make_error(
      Code::kPermissionDenied, "source_not_allowed",
      "plain http is not read from {}:{}, whoever is on the way could change the model; use https, or have "
      "the host allowed (--allow-source {}:{})",
      host, port, host, port);
}

Status SourcePolicy::check_bucket(std::string_view bucket, std::string_view key) const {
  const auto below = [key](std::string_view prefix) {  // whole segments: "a" holds "a/b", not "ab"
    if (!key.starts_with(prefix)) return false;
    return prefix.empty() || prefix.ends_with('/') || key.size() == prefix.size() || key[prefix.size()] == '/';
  };
  const bool named = std::any_of(buckets_.begin(), buckets_.end(),
                                 [&](const Bucket& b) { return b.name == bucket && below(b.prefix); });
  if (own_network_ || named) return Ok{};
  return make_error(
      Code::kPermissionDenied, "source_not_allowed",
      "the server reads s3://{} for nobody: what its credentials open is not everybody's; have the bucket "
      "allowed (--allow-source s3://{}), or let the command line fetch it with your own credentials",
      bucket, bucket);
}

bool SourcePolicy::allows_address(std::string_view host, std::uint16_t port, const sockaddr& address) const {
  if (is_named(host, port) || is_public_address(address)) return true;
  if (!own_network_) return false;
  return !is_loopback_name(host) || is_loopback(address);
}

}  // namespace mayfly
