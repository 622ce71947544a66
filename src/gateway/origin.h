// Which requests a browser may have made for a page of somebody else. Where the server asks nobody for a key, being
// able to reach it is what permits; a page in a browser on the same host can. So without a key, a request must name the
// server by a loopback name or address (DNS rebinding reaches it under another name) and must not come from a page of
// another site (Fetch standard, the Origin header; Fetch Metadata, Sec-Fetch-Site). Pure.
#pragma once
#include <string_view>

#include "gateway/http.h"

namespace mayfly {

// "localhost", an address in 127.0.0.0/8 or "[::1]", each with or without a port.
bool is_loopback_authority(std::string_view authority);
// kPermissionDenied "foreign_origin". No Host at all passes (HTTP/1.0): browsers always send one.
Status check_origin(const RequestHead& head);

}  // namespace mayfly
