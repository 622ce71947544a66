// Whether the pre-packed form of a model runs faster than the mapped one: both are loaded and run in turns on zeros, in
// the compile job's sandbox. Runs alternate, so that what else happens on the machine falls on both; the finding needs
// the median and two thirds of the pairs. One thread. Bounded: kTierBudgetMs of runs, and nothing for large or slow
// models.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "runtimes/onnx/slot_runner.h"

namespace mayfly {

inline constexpr double kTierBudgetMs = 1000;
inline constexpr double kTierMaxRunMs = 250;                               // of the mapped form
inline constexpr std::uint64_t kTierMaxArtefact = std::uint64_t{1} << 30;  // both forms lie in memory at once

// Times of one shape: the free dimensions all set to `dim`.
struct TierRuns {
  std::int64_t dim = 0;
  double mapped_ms = 0, packed_ms = 0;  // medians
  int runs = 0, won = 0;                // pairs, and those in which the packed form was faster
};
struct TierCheck {
  TierRuns shown;  // the shape that decides
  double packed_load_ms = 0;
  std::uint64_t packed_bytes = 0;  // private memory that the packed form takes
  bool worth = false;
  std::string reason;  // for people
};

// Pure. Clearly faster: by 5 % and 20 us a run, in two thirds of the pairs.
bool clearly_faster(const TierRuns& r);
bool slower(const TierRuns& r);  // the packed form: by 2 %, in two thirds of the pairs

TierCheck compare_tiers(const Ort& ort, std::span<const std::byte> artefact, SlotRunner& mapped, std::int64_t free_dim,
                        double run_ms);
// {"worth":true,"reason":"…","dim":8,"runs":40,"won":40,"mapped_ms":…,"packed_ms":…,"packed_load_ms":…,
// "packed_bytes":…}; without times where nothing was measured.
std::string tier_report(const TierCheck& check);

}  // namespace mayfly
