// Printing JSON text: what every writer of JSON in the tree shares. Appends to a caller's string; never fails.
//
// Strings may hold any bytes: quotes, backslashes and control characters are escaped, and each maximal invalid UTF-8
// piece becomes U+FFFD (Unicode 15, section 3.9, table 3-7 says what is well-formed), so that the output is always
// valid UTF-8.
#pragma once
#include <string>
#include <string_view>

namespace mayfly {

// Appends `s` as a JSON string, quotes included.
void append_json_string(std::string& out, std::string_view s);
// Appends `s` itself, made valid UTF-8 in the same manner.
void append_valid_utf8(std::string& out, std::string_view s);

}  // namespace mayfly
