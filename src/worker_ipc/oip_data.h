// Internal to the parsers of requests: the values of an input, from JSON text into memory. The text must lie in a
// buffer with at least 64 zero bytes after its end (json_walk.h).
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "tensor/tensor.h"

namespace mayfly {

// Parses `text`, a JSON array (flat or nested: it is flattened) of `count` elements, into `room` and returns the bytes
// written. Fixed-size dtypes need room.size() >= count * size (checked by the caller); BYTES is bounded here.
Result<std::uint64_t> parse_json_data(std::string_view text, std::string_view tensor, Dtype dtype, std::uint64_t count,
                                      std::span<std::byte> room);

struct NestedData {
  Shape shape;              // of the value as it nests; rank 0: one element
  std::uint64_t bytes = 0;  // written
  const char* end = nullptr;
};
// Parses the JSON value at `text`, one element or arrays that nest evenly, into `room`. Floats may also be NaN, Inf,
// Infinity, -Inf and -Infinity, BYTES also {"b64": "…"}. `key`: the member of the request, for messages.
Result<NestedData> parse_nested_data(const char* text, std::string_view tensor, std::string_view key, Dtype dtype,
                                     std::span<std::byte> room);

// If {"b64": "…"} stands at p: the first character of its base64 text; else null.
const char* b64_text(const char* p);
// Decodes that text into `room`: the end of the object, or null where it is none or does not fit.
const char* read_b64(const char* text, std::span<std::byte> room, std::uint64_t& bytes);

}  // namespace mayfly
