// gzip of whole messages in memory. Values; no I/O.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly::grpc {

// Replaces `out` by what `in` decodes to. Errors: malformed_body, payload_too_large (more than max_bytes),
// out_of_memory.
Status gunzip(std::string_view in, std::uint64_t max_bytes, std::string& out);
// Appends `in` compressed. False: zlib has no memory; `out` is as it was.
bool gzip(std::string_view in, std::string& out);

}  // namespace mayfly::grpc
