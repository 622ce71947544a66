#include "observe/trace_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace mayfly {
namespace {

constexpr std::size_t kVersion = 0, kTrace = 3, kParent = 36, kFlags = 53, kLength = 55;

bool is_hex(std::string_view s) {  // lower case only, as the specification says
  return std::all_of(s.begin(), s.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool all_zero(std::string_view s) { return s.find_first_not_of('0') == std::string_view::npos; }

std::uint8_t hex_byte(std::string_view s) {
  const auto digit = [](char c) { return static_cast<std::uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10); };
  return static_cast<std::uint8_t>(digit(s[0]) << 4 | digit(s[1]));
}

}  // namespace

bool read_traceparent(std::string_view text, std::uint64_t span, TraceContext& out) {
  out.trace_id[0] = '\0';
  if (text.size() < kLength || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  const std::string_view version = text.substr(kVersion, 2), trace = text.substr(kTrace, 32),
                         parent = text.substr(kParent, 16), flags = text.substr(kFlags, 2);
  if (!is_hex(version) || !is_hex(trace) || !is_hex(parent) || !is_hex(flags) || version == "ff") return false;
  if (version == "00" ? text.size() != kLength : text.size() > kLength && text[kLength] != '-') return false;
  if (all_zero(trace) || all_zero(parent)) return false;
  std::memcpy(out.trace_id, trace.data(), 32);
  std::memcpy(out.parent_id, parent.data(), 16);
  fmt::format_to_n(out.span_id, 16, "{:016x}", span);
  out.flags = hex_byte(flags);
  return true;
}

void append_traceparent(std::string& out, const TraceContext& t) {
  fmt::format_to(std::back_inserter(out), "00-{}-{}-{:02x}", t.trace_id, t.span_id, t.flags & 3);
}

}  // namespace mayfly
