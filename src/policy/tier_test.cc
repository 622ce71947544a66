#include "policy/tier.h"

#include <gtest/gtest.h>

namespace mayfly::policy {
namespace {

constexpr std::uint64_t kMi = 1ULL << 20;
const TierPlan kPlan{true, 10'000'000, 60'000'000, 40 * kMi};

TEST(Tier, WaitsUntilTheRunsHaveLostWhatBuildingCosts) {
  EXPECT_FALSE(tier_pays(kPlan, 0));
  EXPECT_FALSE(tier_pays(kPlan, 6));
  EXPECT_TRUE(tier_pays(kPlan, 7));
}

TEST(Tier, AnInstanceOfFewRequestsStaysMapped) {
  TierPlan cheap = kPlan;
  cheap.build_ns = 1;
  EXPECT_FALSE(tier_pays(cheap, kMinRunsForTier - 1));
  EXPECT_TRUE(tier_pays(cheap, kMinRunsForTier));
}

TEST(Tier, NeverWhereItIsNotAllowedOrGainsNothing) {
  TierPlan off = kPlan, useless = kPlan;
  off.allowed = false;
  useless.gain_ns = 0;
  EXPECT_FALSE(tier_pays(off, ~0ULL));
  EXPECT_FALSE(tier_pays(useless, ~0ULL));
}

TEST(Tier, NeedsTheMeasuredMemoryAndAReserve) {
  // 40 MiB, a quarter of it and 16 MiB.
  EXPECT_TRUE(tier_fits(kPlan, 34 * kMi, 100 * kMi));
  EXPECT_FALSE(tier_fits(kPlan, 34 * kMi + 1, 100 * kMi));
  EXPECT_FALSE(tier_fits(kPlan, 101 * kMi, 100 * kMi));
  EXPECT_FALSE(tier_fits(kPlan, 0, 39 * kMi));
  TierPlan huge = kPlan;
  huge.packed_bytes = ~0ULL;
  EXPECT_FALSE(tier_fits(huge, 1, ~0ULL));
}

}  // namespace
}  // namespace mayfly::policy
