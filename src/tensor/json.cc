#include "tensor/json.h"

#include <array>
#include <cstdint>

namespace mayfly {
namespace {

// 1: copied as it is; 0: needs a look (escape or UTF-8 sequence).
constexpr std::array<bool, 256> make_plain() {
  std::array<bool, 256> t{};
  for (std::size_t c = 0x20; c < 0x80; ++c) t[c] = c != '"' && c != '\\';
  return t;
}
constexpr std::array<bool, 256> kPlain = make_plain();

struct Utf8 {
  std::size_t length;  // bytes to consume
  bool valid;
};

bool continuation(std::uint8_t c) { return (c & 0xC0) == 0x80; }

// Classifies the sequence at the start of `s` (first byte >= 0x80); an invalid one counts its maximal valid prefix.
Utf8 classify(std::string_view s) {
  const auto at = [&](std::size_t i) { return static_cast<std::uint8_t>(s[i]); };
  const std::uint8_t lead = at(0);
  std::size_t need = 0;
  std::uint8_t low = 0x80, high = 0xBF;  // range of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    need = 1;
  } else if ((lead & 0xF0) == 0xE0) {
    need = 2;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    need = 3;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, false};
  }
  if (s.size() < 2 || at(1) < low || at(1) > high) return {1, false};
  std::size_t i = 2;
  while (i <= need && i < s.size() && continuation(at(i))) ++i;
  return {i, i == need + 1};
}

void append_escaped(std::string& out, char c) {
  constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    default:
      out += "\\u00";
      out += kHex[(static_cast<std::uint8_t>(c) >> 4) & 0xF];
      out += kHex[static_cast<std::uint8_t>(c) & 0xF];
  }
}

}  // namespace

void append_json_string(std::string& out, std::string_view s) {
  out += '"';
  std::size_t i = 0;
  while (i < s.size()) {
    std::size_t run = i;
    while (run < s.size() && kPlain[static_cast<std::uint8_t>(s[run])]) ++run;
    out.append(s.substr(i, run - i));
    i = run;
    if (i == s.size()) break;
    if (static_cast<std::uint8_t>(s[i]) < 0x80) {
      append_escaped(out, s[i++]);
      continue;
    }
    const Utf8 u = classify(s.substr(i, 4));
    if (u.valid) {
      out.append(s.substr(i, u.length));
    } else {
      out += "\xEF\xBF\xBD";
    }
    i += u.length;
  }
  out += '"';
}

void append_valid_utf8(std::string& out, std::string_view s) {
  for (std::size_t i = 0; i < s.size();) {
    const bool ascii = static_cast<std::uint8_t>(s[i]) < 0x80;
    const Utf8 u = ascii ? Utf8{1, true} : classify(s.substr(i, 4));
    out.append(u.valid ? s.substr(i, u.length) : std::string_view("\xEF\xBF\xBD"));
    i += u.length;
  }
}

}  // namespace mayfly
