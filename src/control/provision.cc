#include "control/provision.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>

namespace mayfly {
namespace {

using Json = nlohmann::json;
using policy::ProvisionWindow;

constexpr std::array<std::string_view, 7> kDays = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
constexpr std::uint8_t kEveryDay = 0x7F;

std::optional<std::size_t> day_of(std::string_view name) {
  const auto at = std::find(kDays.begin(), kDays.end(), name);
  if (at == kDays.end()) return std::nullopt;
  return static_cast<std::size_t>(at - kDays.begin());
}

// "mon-fri,sun"; a range may pass over the week's end. 0: malformed.
std::uint8_t days_of(std::string_view text) {
  std::uint8_t days = 0;
  for (;;) {
    const auto comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    const auto dash = part.find('-');
    const auto first = day_of(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : day_of(part.substr(dash + 1));
    if (!first || !last) return 0;
    for (std::size_t d = *first;; d = (d + 1) % 7) {
      days = static_cast<std::uint8_t>(days | 1U << d);
      if (d == *last) break;
    }
    if (comma == std::string_view::npos) return days;
    text.remove_prefix(comma + 1);
  }
}

std::string days_text(std::uint8_t days) {
  std::string out;
  for (std::size_t d = 0; d < 7; ++d) {
    if ((days >> d & 1) == 0) continue;
    if (!out.empty()) out += ',';
    out += kDays[d];
  }
  return out;
}

// "08:30" → 510; "24:00" is midnight.
std::optional<std::uint16_t> minute_of(std::string_view text) {
  const auto digit = [&](std::size_t i) { return text[i] >= '0' && text[i] <= '9'; };
  if (text.size() != 5 || text[2] != ':' || !digit(0) || !digit(1) || !digit(3) || !digit(4)) return std::nullopt;
  const int hour = (text[0] - '0') * 10 + text[1] - '0', minute = (text[3] - '0') * 10 + text[4] - '0';
  if (minute > 59 || hour * 60 + minute > 24 * 60) return std::nullopt;
  return static_cast<std::uint16_t>((hour * 60 + minute) % (24 * 60));
}

template <typename... Args>
Error wrong(std::size_t i, fmt::format_string<Args...> text, Args&&... args) {
  return invalid("invalid_setting", "setting provisioned[{}]{}", i, fmt::format(text, std::forward<Args>(args)...));
}

std::optional<std::uint32_t> count_of(const Json& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMaxProvisioned) return std::nullopt;
  return value.get<std::uint32_t>();
}

Result<ProvisionWindow> window_of(std::size_t i, const Json& value) {
  if (!value.is_object()) return wrong(i, ": expected an object {{count, days, from, to}}");
  ProvisionWindow w;
  bool counted = false;
  for (const auto& [key, v] : value.items()) {
    const std::string text = v.is_string() ? v.get<std::string>() : std::string();
    if (key == "count") {
      const auto n = count_of(v);
      if (!n) return wrong(i, ".count: expected a whole number, 0 to {}", kMaxProvisioned);
      w.count = *n;
      counted = true;
    } else if (key == "days") {
      w.days = days_of(text);
      if (w.days == 0) return wrong(i, ".days: expected names such as \"mon-fri\" or \"sat,sun\"");
    } else if (key == "from" || key == "to") {
      const auto minute = minute_of(text);
      if (!minute) return wrong(i, ".{}: expected a time of the day in UTC, such as \"08:30\"", key);
      (key == "from" ? w.from_min : w.to_min) = *minute;
    } else {
      return wrong(i, ": \"{}\" is not known; known are count, days, from and to", key.substr(0, 40));
    }
  }
  if (!counted) return wrong(i, ": count is missing: how many instances are warm in this window?");
  return w;
}

std::string time_text(std::uint16_t minute) { return fmt::format("{:02}:{:02}", minute / 60, minute % 60); }

}  // namespace

Result<std::vector<ProvisionWindow>> provision_from_json(const Json& value) {
  std::vector<ProvisionWindow> windows;
  if (const auto n = count_of(value)) {
    if (*n > 0) windows.push_back({kEveryDay, 0, 0, *n});
    return windows;
  }
  if (!value.is_array() || value.size() > kMaxProvisionWindows) {
    return invalid(
        "invalid_setting",
        "setting provisioned: expected a whole number, 0 to {}, or a list of at most {} windows {{count, days, "
        "from, to}}",
        kMaxProvisioned, kMaxProvisionWindows);
  }
  for (std::size_t i = 0; i < value.size(); ++i) {
    auto w = window_of(i, value[i]);
    if (!w.ok()) return std::move(w.error());
    windows.push_back(*w);
  }
  return windows;
}

Json provision_to_json(const std::vector<ProvisionWindow>& windows) {
  if (windows.empty()) return {};
  if (windows.size() == 1 && windows[0] == ProvisionWindow{kEveryDay, 0, 0, windows[0].count}) return windows[0].count;
  Json out = Json::array();
  for (const ProvisionWindow& w : windows) {
    Json row = {{"count", w.count}};
    if (w.days != kEveryDay) row["days"] = days_text(w.days);
    if (w.from_min != 0 || w.to_min != 0) {
      row["from"] = time_text(w.from_min);
      row["to"] = time_text(w.to_min);
    }
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace mayfly
