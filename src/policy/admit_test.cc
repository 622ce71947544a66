#include "policy/admit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace mayfly::policy {
namespace {

constexpr std::uint64_t kMs = 1'000'000, kSecond = 1'000'000'000;

TEST(Reserve, IsASmallPartOfWhatIsLeft) {
  EXPECT_EQ(reserve_ns(128'000'000, 0), 1'000'000U);
  EXPECT_EQ(reserve_ns(60'000'000'000, 0), 2'000'000U);
  EXPECT_EQ(reserve_ns(5, 7), 0U);
}

TEST(Lateness, KeepsTheMostAndForgetsItSlowly) {
  Lateness l;
  l.observe(1'000'000);
  l.observe(10'000);
  EXPECT_GT(l.ns(), 980'000U);
  l.observe(2'000'000);
  EXPECT_EQ(l.ns(), 2'000'000U);
  for (int i = 0; i < 1000; ++i) l.observe(5'000);
  EXPECT_EQ(l.ns(), 5'000U);
}

TEST(RunTime, KnowsNothingAtFirst) {
  RunTime t;
  EXPECT_FALSE(t.measured());
  EXPECT_EQ(t.mean_ns(), 0U);
}

TEST(RunTime, ForgetsAColdFirstRun) {
  RunTime t;
  t.observe(900 * kMs);
  EXPECT_EQ(t.mean_ns(), 900 * kMs);
  t.observe(3 * kMs);
  EXPECT_EQ(t.mean_ns(), 3 * kMs);
}

TEST(RunTime, AnOutlierMovesLittle) {
  RunTime t;
  for (int i = 0; i < 50; ++i) t.observe(10 * kMs + static_cast<std::uint64_t>(i % 3) * kMs);
  const std::uint64_t before = t.mean_ns();
  t.observe(60 * kSecond);
  EXPECT_LT(t.mean_ns(), before + 3 * kMs);
}

TEST(RunTime, FollowsALastingChange) {
  for (const std::uint64_t to : {2'000 * kMs, std::uint64_t{200'000}}) {
    RunTime t;
    for (int i = 0; i < 50; ++i) t.observe(20 * kMs);
    int runs = 0;
    while (std::abs(static_cast<double>(t.mean_ns()) - static_cast<double>(to)) > 0.25 * static_cast<double>(to)) {
      t.observe(to);
      ASSERT_LT(++runs, 60);
    }
    if (to > 20 * kMs) EXPECT_LT(runs, 25);
  }
}

TEST(RunTime, MostRunsStayBelowHigh) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 rng(seed);
    std::lognormal_distribution<double> run(16, 0.4);
    RunTime t;
    int below = 0;
    for (int i = 0; i < 2000; ++i) {
      const auto ns = static_cast<std::uint64_t>(run(rng));
      if (i >= 100 && ns <= t.high_ns()) ++below;
      t.observe(ns);
    }
    EXPECT_GT(below, 1900 * 85 / 100) << "seed " << seed;
  }
}

AdmitState busy() {  // 4 slots at 100 ms a request, 8 requests queued ahead, the running ones half done
  AdmitState s;
  s.run_ns = 100 * kMs;
  s.ready_slots = 4;
  s.running_left_ns = 200 * kMs;
  s.ahead_ns = 800 * kMs;
  return s;
}

TEST(Admit, QueuesWhatMakesItsDeadline) {
  AdmitState s = busy();
  s.deadline_ns = kSecond + 350 * kMs;
  const Admission a = admit(s, kSecond);
  EXPECT_EQ(a.verdict, Verdict::kAdmit);
  EXPECT_EQ(a.wait_ns, 250 * kMs);
}

TEST(Admit, RefusesWhatDoesNotAndSaysWhenToAskAgain) {
  AdmitState s = busy();
  s.ahead_ns = 40 * kSecond;  // 10 s on four slots
  s.deadline_ns = kSecond + 3 * kSecond;
  const Admission a = admit(s, kSecond);
  EXPECT_EQ(a.verdict, Verdict::kDeadlineUnreachable);
  EXPECT_EQ(a.retry_after_s, 8U);  // 10.05 + 0.1 - 3 s, rounded up
  EXPECT_EQ(verdict_name(a.verdict), "deadline_unreachable");
}

TEST(Admit, ADeadlineShorterThanTheRunWaitsForTheBacklogOnly) {
  AdmitState s = busy();
  s.run_ns = 50 * kSecond;
  s.ahead_ns = 12 * kSecond;
  s.deadline_ns = kSecond;
  const Admission a = admit(s, 1);
  EXPECT_EQ(a.verdict, Verdict::kDeadlineUnreachable);
  EXPECT_EQ(a.retry_after_s, 4U);  // 3.05 s: after that a slot is free, and what can start now is admitted
}

TEST(Admit, WithoutMeasurementsOrDeadlineAdmits) {
  AdmitState s = busy();
  s.deadline_ns = kSecond + 1;
  s.run_ns = 0;
  EXPECT_EQ(admit(s, kSecond).verdict, Verdict::kAdmit);
  s = busy();
  EXPECT_EQ(admit(s, kSecond).verdict, Verdict::kAdmit);
}

TEST(Admit, APassedDeadlineIsToldAsSuchEvenWithAFreeSlot) {
  AdmitState s;
  s.can_start_now = true;
  s.deadline_ns = kSecond;
  EXPECT_EQ(admit(s, kSecond).verdict, Verdict::kDeadlinePassed);
  EXPECT_EQ(admit(s, kSecond - 1).verdict, Verdict::kAdmit);
}

TEST(Admit, AFullQueueSaysWhenItIsDrained) {
  AdmitState s = busy();
  s.queue_refuses = true;
  s.ahead_ns = 22 * kSecond;
  const Admission a = admit(s, 0);
  EXPECT_EQ(a.verdict, Verdict::kQueueFull);
  EXPECT_EQ(a.retry_after_s, 6U);  // 22.2 s on four slots
}

TEST(Admit, StartingInstancesJoinInWhenTheyAreReady) {
  AdmitState s;
  s.ready_slots = 1;
  s.starting_slots = 3;
  s.start_left_ns = 2 * kSecond;
  EXPECT_EQ(drain_ns(s, kSecond), kSecond);           // done before they are ready
  EXPECT_EQ(drain_ns(s, 10 * kSecond), 4 * kSecond);  // 2 s alone, then 8 s on four
  s.ready_slots = 0;
  EXPECT_EQ(drain_ns(s, 0), 2 * kSecond);
  EXPECT_EQ(drain_ns(s, 3 * kSecond), 3 * kSecond);
  s.starting_slots = 0;
  EXPECT_EQ(drain_ns(s, 3 * kSecond), 0U);
}

TEST(Admit, RetryAfterIsWholeSecondsWithinItsBounds) {
  EXPECT_EQ(retry_after_s(0), 1U);
  EXPECT_EQ(retry_after_s(1), 1U);
  EXPECT_EQ(retry_after_s(kSecond), 1U);
  EXPECT_EQ(retry_after_s(kSecond + 1), 2U);
  EXPECT_EQ(retry_after_s(~0ULL), kMaxRetryAfterS);
}

// No prediction refuses what could start now or has no backlog before it; each refusal has a time; and a request that
// is refused is admitted once the backlog has drained for as long as it was told to wait.
TEST(Admit, RefusesForBacklogOnlyAndItsTimeIsTrue) {
  int refused = 0;
  for (std::uint32_t seed = 1; seed <= 20'000; ++seed) {
    std::mt19937 rng(seed);
    AdmitState s;
    auto up_to = [&](std::uint64_t n) { return rng() % (n + 1); };
    const std::uint64_t now = up_to(1000) * kMs, patience = 1 + up_to(5000) * kMs;
    s.deadline_ns = now + patience;
    s.run_ns = up_to(3000) * kMs;
    s.ready_slots = static_cast<std::uint32_t>(up_to(8));
    s.starting_slots = static_cast<std::uint32_t>(up_to(8));
    s.can_start_now = up_to(9) == 0;
    s.start_left_ns = up_to(2000) * kMs;
    s.running_left_ns = up_to(1) * up_to(20'000) * kMs;
    s.ahead_ns = up_to(1) * up_to(40'000) * kMs;
    const Admission a = admit(s, now);
    const bool backlog = !s.can_start_now && s.running_left_ns + s.ahead_ns > 0;
    if (!backlog || s.run_ns == 0 || s.ready_slots + s.starting_slots == 0) {
      if (s.ready_slots + s.starting_slots > 0 || !backlog) EXPECT_EQ(a.verdict, Verdict::kAdmit) << "seed " << seed;
      continue;
    }
    if (a.verdict == Verdict::kAdmit) continue;
    ++refused;
    ASSERT_EQ(a.verdict, Verdict::kDeadlineUnreachable);
    ASSERT_GE(a.retry_after_s, 1U);
    const std::uint64_t later = std::uint64_t{a.retry_after_s} * kSecond;
    AdmitState then = s;
    // What all slots have done meanwhile.
    const std::uint64_t alone = std::min(later, s.start_left_ns);
    std::uint64_t done = alone * s.ready_slots + (later - alone) * (s.ready_slots + s.starting_slots);
    const std::uint64_t left = s.running_left_ns + s.ahead_ns - std::min(done, s.running_left_ns + s.ahead_ns);
    then.running_left_ns = left;
    then.ahead_ns = 0;
    then.start_left_ns -= alone;
    then.deadline_ns = now + later + patience;
    EXPECT_EQ(admit(then, now + later).verdict, Verdict::kAdmit) << "seed " << seed;
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace mayfly::policy
