// Numbers as text, appended: for the path of every request, where a format string costs more than the number.
#pragma once
#include <array>
#include <charconv>
#include <cstdint>
#include <string>

namespace mayfly {

inline void append_number(std::string& out, std::uint64_t n) {
  std::array<char, 20> text;
  out.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), n).ptr);
}

// 16 hexadecimal digits.
inline void append_hex16(std::string& out, std::uint64_t n) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::array<char, 16> text;
  for (std::size_t i = 16; i-- > 0; n >>= 4) text[i] = kDigits[n & 15];
  out.append(text.data(), text.size());
}

}  // namespace mayfly
