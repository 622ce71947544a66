#include "policy/residency.h"

#include <gtest/gtest.h>

#include <random>

namespace mayfly::policy {
namespace {

using Indices = std::vector<std::size_t>;
constexpr std::uint64_t kMs = 1'000'000, kMb = 1'000'000;

std::uint64_t freed_by(const std::vector<Resident>& r, const std::vector<std::uint64_t>& shared,
                       const Indices& chosen) {
  std::uint64_t sum = 0;
  for (const std::size_t i : chosen) sum += r[i].own_bytes;
  for (std::size_t g = 0; g < shared.size(); ++g) {
    std::size_t all = 0, gone = 0;
    for (std::size_t i = 0; i < r.size(); ++i) all += r[i].group == g ? 1 : 0;
    for (const std::size_t i : chosen) gone += r[i].group == g ? 1 : 0;
    if (gone > 0 && gone == all) sum += shared[g];
  }
  return sum;
}

TEST(Residency, TheLeastWorthGoesFirst) {
  const std::vector<Resident> r = {
      {.own_bytes = 10 * kMb, .restart_ns = 500 * kMs, .use = 0.9},  // dear to have again, and likely wanted
      {.own_bytes = 10 * kMb, .restart_ns = 3 * kMs, .use = 0.9},
      {.own_bytes = 10 * kMb, .restart_ns = 500 * kMs, .use = 0.001},
  };
  EXPECT_EQ(choose_evictions(r, {}, 1), Indices{2});
  EXPECT_EQ(choose_evictions(r, {}, 11 * kMb), (Indices{2, 1}));
}

TEST(Residency, WhatIsInUseNeverGoes) {
  std::vector<Resident> r(3, {.own_bytes = kMb, .in_use = true});
  EXPECT_TRUE(choose_evictions(r, {}, 1).empty());
  r[1].in_use = false;
  EXPECT_EQ(choose_evictions(r, {}, kMb), Indices{1});
  EXPECT_TRUE(choose_evictions(r, {}, 2 * kMb).empty()) << "not enough: then nothing goes";
}

TEST(Residency, AChoiceThatALargerOneMadeSuperfluousIsSpared) {
  const std::vector<Resident> r = {
      {.own_bytes = 1 * kMb, .restart_ns = 1 * kMs},     // least worth, too small alone
      {.own_bytes = 50 * kMb, .restart_ns = 100 * kMs},  // enough alone
  };
  EXPECT_EQ(choose_evictions(r, {}, 40 * kMb), Indices{1});
}

TEST(Residency, SharedBytesAreFreeWhenTheLastHasGone) {
  const std::vector<std::uint64_t> shared = {100 * kMb};
  std::vector<Resident> r(2, {.own_bytes = kMb, .group = 0, .restart_ns = kMs});
  EXPECT_EQ(choose_evictions(r, shared, 50 * kMb), (Indices{0, 1}));
  r[0].in_use = true;
  EXPECT_TRUE(choose_evictions(r, shared, 50 * kMb).empty());
  EXPECT_EQ(choose_evictions(r, shared, kMb), Indices{1});
}

TEST(Residency, UseFadesWithSilence) {
  EXPECT_GT(use_within(60'000 * kMs, 1'000 * kMs, 0), 0.99);
  EXPECT_LT(use_within(60'000 * kMs, 1'000 * kMs, 86'400'000 * kMs), 0.001);
  EXPECT_GT(use_within(1'000 * kMs, 0, 1'000 * kMs), 0.5);
  EXPECT_LE(use_within(1'000 * kMs, 0, 0), 1);
}

// For any residents: enough, never one in use, no more than needed, and the same answer for the same question.
TEST(Residency, HoldsForAnyResidents) {
  std::mt19937_64 random(7);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::uint64_t> shared(below(4));
    for (auto& bytes : shared) bytes = below(50);
    std::vector<Resident> r(below(12));
    std::uint64_t possible = 0;
    Indices all;
    for (std::size_t i = 0; i < r.size(); ++i) {
      r[i] = {below(20), shared.empty() || below(3) == 0 ? Resident::kNoGroup : below(shared.size()), below(3) == 0,
              below(1000), static_cast<double>(below(100)) / 100};
      if (!r[i].in_use) all.push_back(i);
    }
    possible = freed_by(r, shared, all);
    const std::uint64_t need = below(120);
    const Indices chosen = choose_evictions(r, shared, need);
    ASSERT_EQ(chosen, choose_evictions(r, shared, need));
    if (need == 0 || need > possible) {
      ASSERT_TRUE(chosen.empty());
      continue;
    }
    ASSERT_GE(freed_by(r, shared, chosen), need);
    for (const std::size_t i : chosen) {
      ASSERT_FALSE(r[i].in_use);
      Indices without;
      for (const std::size_t j : chosen) {
        if (j != i) without.push_back(j);
      }
      ASSERT_LT(freed_by(r, shared, without), need) << "one more went than was needed";
    }
  }
}

}  // namespace
}  // namespace mayfly::policy
