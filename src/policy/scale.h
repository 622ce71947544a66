// How many instances a version should have: pure functions of (state, now). Times are monotonic nanoseconds.
#pragma once
#include <cstdint>
#include <limits>
#include <string_view>

namespace mayfly::policy {

struct PoolState {
  std::uint32_t starting = 0, ready = 0;  // instances: without and with a session
  std::uint32_t busy_slots = 0;           // requests held by instances, running or about to
  std::uint32_t waiting = 0;              // requests without a slot
  std::uint32_t min = 0, max = 1, concurrency = 1;
  std::uint32_t max_starting = std::numeric_limits<std::uint32_t>::max();  // at a time
  std::uint64_t backoff_until_ns = 0;                                      // after failed starts
};
struct ScaleDecision {
  std::uint32_t start = 0;
  std::string_view reason;
};
// Starts what the waiting requests need beyond the free slots of the instances that exist or are starting, and keeps
// `min`; `max_starting` of them at a time, the rest as those become ready, if it is still needed then.
ScaleDecision scale_up(const PoolState& s, std::uint64_t now_ns);

// How many starts of one version make use of all processors: where more are under way they only slow each other down,
// and the first of them could have answered what the others are started for.
constexpr std::uint32_t useful_starts(std::uint32_t processors) { return 4 * processors; }

// Instances that would be started next if those that are starting now were ready: what waits can count on them.
std::uint32_t start_later(const PoolState& s);

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
