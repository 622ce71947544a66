#include "policy/batch.h"

#include <algorithm>

namespace mayfly::policy {

BatchDecision close_batch(const BatchState& s, std::uint64_t now_ns) {
  if (s.rows >= s.max_rows) return {true, true, 0, "full"};
  if (!s.idle) return {false, false, 0, "the instance works"};
  if (s.max_delay_ns == 0) return {true, false, 0, "idle"};
  if (s.gap_ns == 0 || s.gap_ns > s.max_delay_ns) return {true, false, 0, "nobody is expected in time"};
  const std::uint64_t latest = s.deadline_ns - std::min(s.deadline_ns, 2 * s.run_ns);
  const std::uint64_t until = std::min(s.opened_ns + s.max_delay_ns, latest);
  if (until <= now_ns) return {true, false, 0, "the delay is over"};
  return {false, false, until, "more are expected"};
}

}  // namespace mayfly::policy
