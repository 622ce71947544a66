// Parsing foreign JSON text into nlohmann's value, which destroys, copies and prints itself by recursion: text of ten
// thousand brackets parses, and then ends the process. So a depth is refused while it is read; nothing deep is ever
// built. All parsing with nlohmann in the server goes through here. Pure; any thread.
#pragma once
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/result.h"

namespace mayfly {

inline constexpr std::size_t kMaxJsonDepth = 32;

// Errors: malformed_json (no JSON; nested deeper than max_depth objects and arrays). A scalar has depth 0.
Result<nlohmann::json> parse_json_bounded(std::string_view text, std::size_t max_depth = kMaxJsonDepth);

}  // namespace mayfly
