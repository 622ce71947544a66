#include "policy/scale.h"

#include <gtest/gtest.h>

#include <random>

namespace mayfly::policy {
namespace {

TEST(ScaleUp, OneWakeServesAllWaitersUpToConcurrency) {
  PoolState s{.waiting = 8, .max = 10, .concurrency = 8};
  EXPECT_EQ(scale_up(s, 0).start, 1U);
  s.waiting = 9;
  EXPECT_EQ(scale_up(s, 0).start, 2U);
}

TEST(ScaleUp, CountsStartingInstancesOnce) {
  PoolState s{.starting = 1, .waiting = 1, .max = 10, .concurrency = 4};
  EXPECT_EQ(scale_up(s, 0).start, 0U);
  EXPECT_EQ(scale_up(s, 0).reason, "enough");
}

TEST(ScaleUp, KeepsMin) { EXPECT_EQ(scale_up({.min = 2, .max = 10, .concurrency = 1}, 0).start, 2U); }

TEST(ScaleUp, WaitsOutTheBackOff) {
  PoolState s{.waiting = 1, .max = 1, .concurrency = 1, .backoff_until_ns = 100};
  EXPECT_EQ(scale_up(s, 99).start, 0U);
  EXPECT_EQ(scale_up(s, 100).start, 1U);
}

TEST(ScaleUp, SoManyStartAtATimeAndTheRestOnceThoseAreReady) {
  PoolState s{.waiting = 100, .max = 50, .concurrency = 1, .max_starting = 8};
  EXPECT_EQ(scale_up(s, 0).start, 8U);
  EXPECT_EQ(start_later(s), 0U);
  s.starting = 8;
  EXPECT_EQ(scale_up(s, 0).start, 0U);
  EXPECT_EQ(scale_up(s, 0).reason, "others start first");
  EXPECT_EQ(start_later(s), 42U);
  s.starting = 5;
  s.ready = s.busy_slots = 3;
  EXPECT_EQ(scale_up(s, 0).start, 3U);
  s.waiting = 0;  // answered meanwhile
  EXPECT_EQ(scale_up(s, 0).start, 0U);
}

TEST(ScaleUp, NeverPassesMaxAndNeverStartsForNothing) {
  std::mt19937 rng(20261124);
  for (int i = 0; i < 20000; ++i) {
    auto pick = [&](std::uint32_t n) { return static_cast<std::uint32_t>(rng() % (n + 1)); };
    PoolState s{.starting = pick(5),
                .ready = pick(5),
                .busy_slots = pick(40),
                .waiting = pick(200),
                .min = pick(3),
                .max = 1 + pick(20),
                .concurrency = 1 + pick(16),
                .max_starting = 1 + pick(8)};
    s.min = std::min(s.min, s.max);
    const auto d = scale_up(s, 0);
    EXPECT_LE(d.start + s.starting + s.ready, std::max(s.max, s.starting + s.ready));
    EXPECT_LE(d.start + s.starting, std::max(s.max_starting, s.starting));
    EXPECT_LE(start_later(s) + s.starting + s.ready, std::max(s.max, s.starting + s.ready));
    if (s.waiting == 0 && s.busy_slots == 0 && s.min == 0) EXPECT_EQ(d.start, 0U);
  }
}

TEST(ShouldEnd, BusyNeverEnds) { EXPECT_FALSE(should_end({.busy = true, .retired = true}, 1'000'000).end); }
TEST(ShouldEnd, IdleAfterItsTimeButKeepsMin) {
  IdleState s{.idle_since_ns = 100, .idle_limit_ns = 50, .instances = 2, .min = 1};
  EXPECT_FALSE(should_end(s, 149).end);
  EXPECT_TRUE(should_end(s, 150).end);
  s.instances = 1;
  EXPECT_FALSE(should_end(s, 150).end);
  s.retired = true;
  EXPECT_TRUE(should_end(s, 0).end);
}

TEST(Backoff, DoublesToTenSeconds) {
  EXPECT_EQ(start_backoff_ns(0), 0U);
  EXPECT_EQ(start_backoff_ns(1), 100'000'000U);
  EXPECT_EQ(start_backoff_ns(3), 400'000'000U);
  EXPECT_EQ(start_backoff_ns(50), 10'000'000'000U);
}

}  // namespace
}  // namespace mayfly::policy
