// Internal to oip_parse.cc: the "data" array of an input, from JSON text into memory.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "tensor/tensor.h"

namespace mayfly {

// Parses `text`, a JSON array (flat or nested: it is flattened) of `count` elements, into `room` and returns the bytes
// written. `text` must lie in a buffer with at least 64 zero bytes after its end. Fixed-size dtypes need
// room.size() >= count * size (checked by the caller); BYTES is bounded here.
Result<std::uint64_t> parse_json_data(std::string_view text, std::string_view tensor, Dtype dtype, std::uint64_t count,
                                      std::span<std::byte> room);

}  // namespace mayfly
