// What a person reads: aligned tables, sizes, ages and text that can't move the cursor. Pure functions over values.
// The JSON accessors never throw: what is missing or of another type is "-" or 0, since an answer may come from a
// server of another version.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::cli {

using Json = nlohmann::json;

// Columns two spaces apart, numbers (cells of digits) to the right, no trailing spaces; ends with a newline.
std::string render_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
std::string human_bytes(std::uint64_t bytes);            // "18.6 MB" (powers of 1000)
std::string human_ms(std::uint64_t ms);                  // "850 ms", "12 s", "3 min", "5 h", "12 d"
std::string printable(std::string_view text);            // control bytes as \xNN, so that a log can't drive a terminal
std::string print_json(const Json& j, int indent = -1);  // bytes that are not UTF-8 are replaced

const Json& member(const Json& j, const char* name);    // null if absent
std::string cell(const Json& j, const char* name);      // printable text of a member, "-" if absent
std::uint64_t number(const Json& j, const char* name);  // 0 if absent or no non-negative number

}  // namespace mayfly::cli
