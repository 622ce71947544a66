#include "policy/hold.h"

#include <algorithm>

namespace mayfly::policy {
namespace {

constexpr std::uint64_t kDayMin = 24 * 60;

// 1970-01-01 was a Thursday.
std::uint64_t weekday(std::uint64_t day) { return (day + 3) % 7; }

bool open_at(const ProvisionWindow& w, std::uint64_t minute) {
  const std::uint64_t day = minute / kDayMin, at = minute % kDayMin;
  const auto on = [&](std::uint64_t d) { return (w.days >> weekday(d) & 1) != 0; };
  const std::uint64_t length = w.to_min > w.from_min ? w.to_min - w.from_min : kDayMin + w.to_min - w.from_min;
  if (at >= w.from_min && at < w.from_min + length && on(day)) return true;
  // Began yesterday.
  return day > 0 && kDayMin + at < w.from_min + length && on(day - 1);
}

}  // namespace

std::uint32_t provisioned_at(std::span<const ProvisionWindow> windows, std::uint64_t unix_s) {
  std::uint32_t most = 0;
  for (const ProvisionWindow& w : windows) {
    if (open_at(w, unix_s / 60)) most = std::max(most, w.count);
  }
  return most;
}

Hold what_to_hold(const HoldState& s) {
  Hold h;
  if (!s.live) return {0, 0, "the version gets no traffic", true};
  h.warm = std::max(s.min, s.provisioned);
  h.parked = s.parked;
  h.reason = s.provisioned > s.min ? "the setting provisioned"
             : s.min > 0           ? "the setting min"
             : s.parked > 0        ? "the setting parked"
                                   : "nothing is asked for";
  if (s.budget_ns > 0 && h.warm == 0) {
    if (s.cold_ns == 0) {
      h.parked = std::max(h.parked, 1U);
      h.reason = "cold_start_budget_ms: a start has to be measured first";
      h.within_budget = false;
    } else if (s.cold_ns <= s.budget_ns) {
      if (h.parked == 0) h.reason = "cold_start_budget_ms: a start from zero is within it";
    } else if (s.resume_ns <= s.budget_ns) {
      h.parked = std::max(h.parked, 1U);
      h.reason = "cold_start_budget_ms: a start from zero takes longer, a parked instance does not";
      h.within_budget = s.resume_ns > 0;
    } else {
      h.warm = 1;
      h.reason = "cold_start_budget_ms: a parked instance takes longer too, so one is kept warm";
    }
  }
  h.warm = std::min(h.warm, s.max);
  h.parked = std::min(h.parked, s.max - h.warm);
  return h;
}

}  // namespace mayfly::policy
