#include "policy/scale.h"

#include <algorithm>

namespace mayfly::policy {

ScaleDecision scale_up(const PoolState& s, std::uint64_t now_ns) {
  const std::uint32_t have = s.starting + s.ready;
  if (have >= s.max) return {0, "at max"};
  if (now_ns < s.backoff_until_ns) return {0, "backing off after failed starts"};
  const std::uint64_t demand = std::uint64_t{s.busy_slots} + s.waiting;
  const std::uint64_t wanted = std::max<std::uint64_t>((demand + s.concurrency - 1) / s.concurrency, s.min);
  const auto target = static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, s.max));
  if (target <= have) return {0, "enough"};
  if (s.starting >= s.max_starting) return {0, "others start first"};
  return {std::min(target - have, s.max_starting - s.starting), s.waiting > 0 ? "requests wait" : "below min"};
}

std::uint32_t start_later(const PoolState& s) {
  const std::uint32_t have = s.starting + s.ready;
  return s.starting >= s.max_starting && have < s.max ? s.max - have : 0;
}

EndDecision should_end(const IdleState& s, std::uint64_t now_ns) {
  if (s.busy) return {false, "busy"};
  if (s.retired) return {true, "version retired"};
  if (s.instances <= s.min) return {false, "kept by min"};
  if (now_ns >= s.idle_since_ns + s.idle_limit_ns) return {true, "idle"};
  return {false, "idle time not over"};
}

std::uint64_t start_backoff_ns(std::uint32_t failures) {
  constexpr std::uint64_t kFirst = 100'000'000, kMost = 10'000'000'000;
  if (failures == 0) return 0;
  return std::min(kFirst << std::min(failures - 1, 10U), kMost);
}

}  // namespace mayfly::policy
