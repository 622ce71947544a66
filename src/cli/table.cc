#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace mayfly::cli {
namespace {

// Width on screen, as code points: names may hold letters beyond ASCII.
std::size_t width(std::string_view s) {
  return static_cast<std::size_t>(std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool all_digits(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

void append_row(std::string& out, const std::vector<std::string>& row, const std::vector<std::size_t>& widths,
                const std::vector<bool>& right) {
  const std::size_t begin = out.size();
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (i) out += "  ";
    const std::size_t pad = widths[i] - width(row[i]);
    if (right[i]) out.append(pad, ' ');
    out += row[i];
    if (!right[i]) out.append(pad, ' ');
  }
  while (out.size() > begin && out.back() == ' ') out.pop_back();
  out += '\n';
}

}  // namespace

std::string render_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  std::vector<bool> right(header.size(), !rows.empty());
  for (const auto& h : header) widths.push_back(width(h));
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width(row[i]));
      if (!all_digits(row[i]) && row[i] != "-") right[i] = false;
    }
  }
  std::string out;
  append_row(out, header, widths, right);
  for (const auto& row : rows) append_row(out, row, widths, right);
  return out;
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double v = static_cast<double>(bytes) / 1000;
  std::size_t u = 0;
  while (v >= 999.95 && u + 1 < std::size(kUnits)) {
    v /= 1000;
    ++u;
  }
  return fmt::format("{:.1f} {}", v, kUnits[u]);
}

std::string human_ms(std::uint64_t ms) {
  if (ms < 1000) return fmt::format("{} ms", ms);
  const std::uint64_t s = ms / 1000;
  if (s < 120) return fmt::format("{} s", s);
  if (s < 7200) return fmt::format("{} min", s / 60);
  if (s < 172'800) return fmt::format("{} h", s / 3600);
  return fmt::format("{} d", s / 86'400);
}

std::string printable(std::string_view text) {
  const auto plain = [](char c) { return (c >= 0x20 && c != 0x7F) || static_cast<unsigned char>(c) > 0xC2; };
  if (std::all_of(text.begin(), text.end(), plain)) return std::string(text);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // C1 controls arrive in UTF-8 as C2 80 … C2 9F.
    const bool c1 = c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7F || c1) {
      out += fmt::format("\\x{:02x}", c1 ? static_cast<unsigned char>(text[++i]) : c);
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string print_json(const Json& j, int indent) { return j.dump(indent, ' ', false, Json::error_handler_t::replace); }

const Json& member(const Json& j, const char* name) {
  static const Json null;
  if (!j.is_object()) return null;
  const auto it = j.find(name);
  return it == j.end() ? null : *it;
}

std::string cell(const Json& j, const char* name) {
  const Json& v = member(j, name);
  if (v.is_null()) return "-";
  if (v.is_number_unsigned()) return std::to_string(v.get<std::uint64_t>());
  return printable(v.is_string() ? v.get<std::string>() : print_json(v));
}

std::uint64_t number(const Json& j, const char* name) {
  const Json& v = member(j, name);
  if (v.is_number_unsigned()) return v.get<std::uint64_t>();
  if (v.is_number()) {
    const double d = v.get<double>();
    return d > 0 && d < 9e18 ? static_cast<std::uint64_t>(d) : 0;
  }
  return 0;
}

}  // namespace mayfly::cli
