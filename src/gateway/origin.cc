#include "gateway/origin.h"

#include <arpa/inet.h>

#include <algorithm>
#include <string>

namespace mayfly {
namespace {

Error foreign(std::string_view header, std::string_view value) {
  return make_error(Code::kPermissionDenied, "foreign_origin",
                    "refusing a request without a key whose {} is \"{}\": this server asks for no key, so it answers "
                    "only callers of this host that name it localhost or 127.0.0.1; send a key for anything else",
                    header, value);
}

}  // namespace

bool is_loopback_authority(std::string_view authority) {
  std::string_view host = authority, port;
  if (!host.empty() && host.front() == '[') {
    const auto end = host.find(']');
    if (end == std::string_view::npos) return false;
    port = host.substr(end + 1);
    if (!port.empty() && port.front() != ':') return false;
    host = host.substr(0, end + 1);
  } else if (const auto colon = host.find(':'); colon != std::string_view::npos) {
    port = host.substr(colon);
    host = host.substr(0, colon);
  }
  if (!port.empty()) port.remove_prefix(1);
  if (!std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; })) return false;
  if (iequals(host, "localhost") || host == "[::1]") return true;
  in_addr v4{};
  return inet_pton(AF_INET, std::string(host).c_str(), &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127;
}

Status check_origin(const RequestHead& head) {
  for (const Header& h : head.headers) {
    if (iequals(h.name, "host")) {
      if (!h.value.empty() && !is_loopback_authority(h.value)) return foreign("Host", h.value);
    } else if (iequals(h.name, "origin")) {
      const auto scheme = h.value.find("://");
      if (scheme == std::string_view::npos || !is_loopback_authority(h.value.substr(scheme + 3)))
        return foreign("Origin", h.value);
    } else if (iequals(h.name, "sec-fetch-site")) {
      if (iequals(h.value, "cross-site")) return foreign("Sec-Fetch-Site", h.value);
    }
  }
  return Ok{};
}

}  // namespace mayfly
