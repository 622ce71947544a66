#include "policy/hand_over.h"

#include <gtest/gtest.h>

namespace mayfly::policy {
namespace {

constexpr std::uint64_t kRun = 4'000;

// Runs that come one by one, `gap_ns` apart, each answering so many requests.
void run_some(HandOver& h, int runs, std::uint64_t gap_ns, std::uint32_t requests = 1) {
  static std::uint64_t now = 1'000'000'000'000;
  for (int i = 0; i < runs; ++i) {
    h.submitted(now += gap_ns, requests);
    h.completed();
  }
}

TEST(Gamble, IsTakenWhileItIsWon) {
  Gamble g;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(g.take());
    g.won();
  }
}

TEST(Gamble, LetsTwiceAsManyChancesGoAfterEachFurtherLoss) {
  Gamble g;
  for (int let_go = 1; let_go <= 8; let_go *= 2) {
    ASSERT_TRUE(g.take());
    g.lost();
    for (int i = 0; i < let_go; ++i) EXPECT_FALSE(g.take()) << let_go;
  }
  ASSERT_TRUE(g.take());
  g.won();
  ASSERT_TRUE(g.take());
  g.lost();
  EXPECT_FALSE(g.take());
  EXPECT_TRUE(g.take());  // a win has made it bold again
}

TEST(Gamble, OfEndlessLossesOneChanceIn1024IsTaken) {
  Gamble g;
  int taken = 0;
  for (int i = 0; i < 100'000; ++i) {
    if (!g.take()) continue;
    ++taken;
    g.lost();
  }
  EXPECT_GE(taken, 95);
  EXPECT_LE(taken, 120);
}

TEST(HandOver, ALoneShortRunIsWaitedForAwake) {
  HandOver h(true);
  run_some(h, 50, 60'000);
  EXPECT_TRUE(h.wake_early(kRun));
  EXPECT_FALSE(h.wait_awake(kRun));  // nothing is under way
  h.submitted(2'000'000'000'000, 1);
  EXPECT_TRUE(h.wait_awake(kRun));
  EXPECT_FALSE(h.wake_early(kRun));  // it is awake
}

TEST(HandOver, ARunThatIsLongOrUnknownIsNot) {
  HandOver h(true);
  h.submitted(2'000'000'000'000, 1);
  EXPECT_FALSE(h.wait_awake(0));
  EXPECT_FALSE(h.wait_awake(HandOver::kMaxRunNs + 1));
  EXPECT_TRUE(h.wait_awake(HandOver::kMaxRunNs));
}

TEST(HandOver, ANodeOfOneProcessorNeverWaits) {
  HandOver h(false);
  h.submitted(2'000'000'000'000, 1);
  EXPECT_FALSE(h.wait_awake(kRun));
  h.completed();
  EXPECT_FALSE(h.wake_early(kRun));
}

TEST(HandOver, WhereRunsOverlapNobodyWaitsAwake) {
  HandOver h(true);
  h.submitted(2'000'000'000'000, 1);
  h.submitted(2'000'000'100'000, 1);
  EXPECT_EQ(h.under_way(), 2U);
  EXPECT_FALSE(h.wait_awake(kRun));
  h.completed(2);
  EXPECT_TRUE(h.wake_early(kRun));
}

TEST(HandOver, ABusyReactorDoesNotWait) {
  HandOver close(true), joined(true);
  run_some(close, 50, HandOver::kBusyGapNs / 2);
  EXPECT_FALSE(close.wake_early(kRun));
  run_some(joined, 50, 100'000, 8);  // many requests in each run
  EXPECT_FALSE(joined.wake_early(kRun));
  run_some(close, 50, 1'000'000);
  run_some(joined, 50, 100'000, 1);
  EXPECT_TRUE(close.wake_early(kRun));
  EXPECT_TRUE(joined.wake_early(kRun));
}

TEST(HandOver, GivesUpWhatDoesNotPay) {
  HandOver h(true);
  int waited = 0, woken = 0;
  for (int i = 0; i < 1000; ++i) {
    if (h.wake_early(kRun)) ++woken, h.woken(false);
    h.submitted(2'000'000'000'000 + static_cast<std::uint64_t>(i) * 100'000, 1);
    if (h.wait_awake(kRun)) ++waited, h.waited(false);
    h.completed();
  }
  EXPECT_LE(waited, 12);
  EXPECT_LE(woken, 12);
}

}  // namespace
}  // namespace mayfly::policy
