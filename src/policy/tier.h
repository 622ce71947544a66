// When an instance changes from the mapped form of its model to the packed one: a pure function. Building costs CPU
// time and private memory, so an instance first has to lose as much time by not being packed as the building takes (the
// ski-rental rule: at most twice the cost of knowing the future), and the memory has to be there.
#pragma once
#include <cstdint>
#include <string_view>

namespace mayfly::policy {

// What the deploy measured, and what the owner allows.
struct TierPlan {
  bool allowed = false;            // packed runs are faster, tier_up is auto
  std::uint64_t gain_ns = 0;       // of one run
  std::uint64_t build_ns = 0;      // that making the packed form takes
  std::uint64_t packed_bytes = 0;  // private memory that it takes
};

inline constexpr std::uint32_t kMinRunsForTier = 4;

// runs: that the instance has done in the mapped form.
bool tier_pays(const TierPlan& plan, std::uint64_t runs);
// used_bytes: memory of the instance that the kernel can't take back. A quarter more than was measured, and 16 MiB,
// stay as reserve.
bool tier_fits(const TierPlan& plan, std::uint64_t used_bytes, std::uint64_t limit_bytes);

}  // namespace mayfly::policy
