#include "policy/rate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace mayfly::policy {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(RateLimit, WithoutNumbersLetsEverythingThrough) {
  RateLimit limit;
  EXPECT_FALSE(limit.limits());
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limit.try_take(0), 0U);
}

TEST(RateLimit, GivesTheBurstAndThenTheRate) {
  RateLimit limit(10, 3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limit.try_take(5 * kSecond), 0U);
  EXPECT_EQ(limit.try_take(5 * kSecond), kSecond / 10);
  EXPECT_EQ(limit.try_take(5 * kSecond + kSecond / 20), kSecond / 20);
  EXPECT_EQ(limit.try_take(5 * kSecond + kSecond / 10), 0U);
  EXPECT_NE(limit.try_take(5 * kSecond + kSecond / 10), 0U);
}

TEST(RateLimit, TheBurstComesBackAndGrowsNoFurther) {
  RateLimit limit(10, 3);
  for (int i = 0; i < 3; ++i) limit.try_take(0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limit.try_take(100 * kSecond), 0U);
  EXPECT_NE(limit.try_take(100 * kSecond), 0U);
}

TEST(RateLimit, SlowRatesWork) {
  RateLimit limit(0.01, 1);
  EXPECT_EQ(limit.try_take(0), 0U);
  EXPECT_EQ(limit.try_take(kSecond), 99 * kSecond);
  EXPECT_EQ(limit.try_take(100 * kSecond), 0U);
}

// In any interval of t seconds at most burst + rate·t pass; what is told to wait passes after that wait; and at a
// demand above the rate, what passes is the rate.
TEST(RateLimit, NeverPassesMoreThanBurstAndRate) {
  for (std::uint32_t seed = 1; seed <= 100; ++seed) {
    std::mt19937 rng(seed);
    const double rate = std::pow(10.0, static_cast<double>(rng() % 6000) / 1000 - 1);  // 0.1 … 100,000
    const std::uint32_t burst = 1 + static_cast<std::uint32_t>(rng() % 50);
    RateLimit limit(rate, burst);
    std::vector<std::uint64_t> passed;
    std::uint64_t now = rng();
    double tokens = burst;
    std::uint64_t filled = now;
    for (int i = 0; i < 1500; ++i) {
      now += static_cast<std::uint64_t>(static_cast<double>(rng() % 1000) / 1000 * 1e9 / rate);  // twice the rate
      if (rng() % 200 == 0) now += static_cast<std::uint64_t>(1e9 / rate) * (rng() % 80);
      const double added = static_cast<double>(now - filled) * 1e-9 * rate;
      tokens = std::min<double>(burst, tokens + added);
      filled = now;
      const std::uint64_t wait = limit.try_take(now);
      if (std::abs(tokens - 1) > 0.01) EXPECT_EQ(wait == 0, tokens > 1) << "seed " << seed << ", step " << i;
      tokens -= wait == 0 ? 1 : 0;
      if (wait == 0) {
        passed.push_back(now);
        continue;
      }
      RateLimit early = limit, due = limit;
      EXPECT_NE(early.try_take(now + wait - 1), 0U);
      EXPECT_EQ(due.try_take(now + wait), 0U);
    }
    for (std::size_t from = 0; from < passed.size(); ++from) {
      for (std::size_t to = from; to < passed.size(); to += 1 + to / 8) {
        const double t = static_cast<double>(passed[to] - passed[from]) * 1e-9;
        ASSERT_LE(static_cast<double>(to - from + 1), burst + rate * t + 1e-6) << "rate " << rate << ", seed " << seed;
      }
    }
  }
}

TEST(RateLimit, WhatIsGivenBackCanBeTakenAgainButNoMore) {
  RateLimit limit(1, 2);
  EXPECT_EQ(limit.try_take(kSecond), 0U);
  EXPECT_EQ(limit.try_take(kSecond), 0U);
  limit.give_back();
  EXPECT_EQ(limit.try_take(kSecond), 0U);
  EXPECT_NE(limit.try_take(kSecond), 0U);
  for (int i = 0; i < 5; ++i) limit.give_back();
  EXPECT_EQ(limit.try_take(9 * kSecond), 0U);
  EXPECT_EQ(limit.try_take(9 * kSecond), 0U);
  EXPECT_NE(limit.try_take(9 * kSecond), 0U);
}

TEST(RateLimit, AChangeGivesNoFreshBurstAndNoEndlessWait) {
  RateLimit slow(0.001, 2);
  slow.try_take(0);
  slow.try_take(0);
  RateLimit fast = slow.changed(10, 2, 0);
  EXPECT_EQ(fast.try_take(0), kSecond / 10);  // the burst is used up, the wait is that of the new rate
  RateLimit wide = slow.changed(10, 5, 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(wide.try_take(0), 0U);
  EXPECT_NE(wide.try_take(0), 0U);
  RateLimit used(10, 1000);
  for (int i = 0; i < 1000; ++i) used.try_take(0);
  EXPECT_EQ(used.changed(0.001, 1, 0).try_take(0), 1000 * kSecond);
  EXPECT_EQ(RateLimit().changed(10, 2, 0).try_take(0), 0U);
}

}  // namespace
}  // namespace mayfly::policy
