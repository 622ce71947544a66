#include "policy/rate.h"

#include <algorithm>
#include <cmath>

namespace mayfly::policy {

RateLimit::RateLimit(double per_second, std::uint32_t burst) {
  const double rate = std::clamp(per_second, kMinRate, kMaxRate);
  interval_ns_ = static_cast<std::uint64_t>(std::ceil(1e9 / rate));
  tolerance_ns_ = interval_ns_ * (std::clamp(burst, 1U, kMaxBurst) - 1);
}

std::uint64_t RateLimit::try_take(std::uint64_t now_ns) {
  if (!limits()) return 0;
  const std::uint64_t due = std::max(due_ns_, now_ns);
  if (due - now_ns > tolerance_ns_) return due - now_ns - tolerance_ns_;
  due_ns_ = due + interval_ns_;
  return 0;
}

RateLimit RateLimit::changed(double per_second, std::uint32_t burst, std::uint64_t now_ns) const {
  RateLimit next(per_second, burst);
  if (!limits() || due_ns_ <= now_ns) return next;
  const double used = static_cast<double>(due_ns_ - now_ns) / static_cast<double>(interval_ns_);
  const auto owed = static_cast<std::uint64_t>(used * static_cast<double>(next.interval_ns_));
  next.due_ns_ = now_ns + std::min(owed, next.tolerance_ns_ + next.interval_ns_);
  return next;
}

}  // namespace mayfly::policy
