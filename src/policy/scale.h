// How many instances a version should have: pure functions of (state, now). Times are monotonic nanoseconds.
#pragma once
#include <cstdint>
#include <string_view>

namespace mayfly::policy {

struct PoolState {
  std::uint32_t starting = 0, ready = 0;  // instances
  std::uint32_t busy_slots = 0;           // requests held by instances, running or about to
  std::uint32_t waiting = 0;              // requests without a slot
  std::uint32_t min = 0, max = 1, concurrency = 1;
  std::uint64_t backoff_until_ns = 0;  // after failed starts
};
struct ScaleDecision {
  std::uint32_t start = 0;
  std::string_view reason;
};
// Starts what the waiting requests need beyond the free slots of the instances that exist or are starting, and keeps
// `min`.
ScaleDecision scale_up(const PoolState& s, std::uint64_t now_ns);

struct IdleState {
  bool busy = false, retired = false;  // retired: its version no longer receives traffic
  std::uint64_t idle_since_ns = 0, idle_limit_ns = 0;
  std::uint32_t instances = 0, min = 0;
};
struct EndDecision {
  bool end = false;
  std::string_view reason;
};
EndDecision should_end(const IdleState& s, std::uint64_t now_ns);

// Pause before the next start after `failures` consecutive failed ones: 0, 100 ms, 200 ms … 10 s.
std::uint64_t start_backoff_ns(std::uint32_t failures);

}  // namespace mayfly::policy
