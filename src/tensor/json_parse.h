// Parsing foreign JSON text into nlohmann's value, which destroys, copies and prints itself by recursion: text of ten
// thousand brackets parses, and then ends the process. So a depth is refused while it is read; nothing deep is ever
// built. Nor is what takes far more memory than its text: 64 MiB of "{}," would be 1.4 GB. So the numbers of values are
// bounded: what allocates (an object, an array, a name, a string) takes up to about 120 bytes, anything else 16, or 32
// while its array grows. All parsing with nlohmann in the server goes through here. Pure; any thread.
#pragma once
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/result.h"

namespace mayfly {

inline constexpr std::size_t kMaxJsonDepth = 32;

inline constexpr std::size_t kMaxJsonNodes = 1'000'000;    // objects, arrays, names and strings: 120 MB
inline constexpr std::size_t kMaxJsonNumbers = 8'000'000;  // numbers, true, false and null: 256 MB

// Errors: malformed_json (no JSON; nested deeper than max_depth objects and arrays; too many values). A scalar has
// depth 0.
Result<nlohmann::json> parse_json_bounded(std::string_view text, std::size_t max_depth = kMaxJsonDepth,
                                          std::size_t max_nodes = kMaxJsonNodes,
                                          std::size_t max_numbers = kMaxJsonNumbers);

}  // namespace mayfly
