// Which of the things that a node keeps in memory, or on disk, go when room is needed. Pure.
//
// The worth of keeping one is what it would cost to have it again, times how likely that is needed, per byte; the least
// worth goes first. Never one that is in use, and none that could stay: what the last choice made superfluous is spared
// again. Several may share bytes (instances of one version map one artefact), which are free only when the last of them
// has gone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mayfly::policy {

struct Resident {
  std::uint64_t own_bytes = 0;   // free when it goes
  std::size_t group = kNoGroup;  // index into `shared_bytes`; members that are not listed count as in use
  bool in_use = false;           // a request runs there, or the owner pays for it to stay
  std::uint64_t restart_ns = 0;  // to have it again
  double use = 1;                // probability that it is wanted again before long, 0 … 1
  static constexpr std::size_t kNoGroup = ~std::size_t{0};
};

// Probability that a request comes within `horizon_ns`, where one came every `gap_ns` on average and the last
// `since_ns` ago: exponential gaps, whose mean is at least the silence so far. gap_ns 0: not known, taken as the
// silence.
double use_within(std::uint64_t horizon_ns, std::uint64_t gap_ns, std::uint64_t since_ns);

// Indices of `residents`, in the order in which they go, that free at least `need_bytes`; empty if all that may go
// would not be enough (then nothing shall), or nothing is needed.
std::vector<std::size_t> choose_evictions(std::span<const Resident> residents,
                                          std::span<const std::uint64_t> shared_bytes, std::uint64_t need_bytes);

}  // namespace mayfly::policy
