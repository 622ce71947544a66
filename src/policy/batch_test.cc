#include "policy/batch.h"

#include <gtest/gtest.h>

namespace mayfly::policy {
namespace {

BatchState waiting() {
  BatchState s;
  s.rows = 3;
  s.max_rows = 8;
  s.opened_ns = 1'000'000;
  s.max_delay_ns = 500'000;
  s.gap_ns = 50'000;
  s.run_ns = 100'000;
  return s;
}

TEST(CloseBatch, FullEndsAtOnce) {
  BatchState s = waiting();
  s.rows = 8;
  s.idle = false;
  EXPECT_TRUE(close_batch(s, 1'000'000).full);
}

TEST(CloseBatch, StaysOpenWhileTheInstanceWorks) {
  BatchState s = waiting();
  s.idle = false;
  const auto d = close_batch(s, 9'000'000);
  EXPECT_FALSE(d.close);
  EXPECT_EQ(d.wait_until_ns, 0U);
}

TEST(CloseBatch, IdleBeginsAtOnceWithoutADelay) {
  BatchState s = waiting();
  s.max_delay_ns = 0;
  EXPECT_TRUE(close_batch(s, 1'000'000).close);
}

TEST(CloseBatch, WaitsOnlyIfMoreAreExpected) {
  BatchState s = waiting();
  EXPECT_EQ(close_batch(s, 1'000'000).wait_until_ns, 1'500'000U);
  s.gap_ns = 600'000;
  EXPECT_TRUE(close_batch(s, 1'000'000).close);
  s.gap_ns = 0;
  EXPECT_TRUE(close_batch(s, 1'000'000).close);
}

TEST(CloseBatch, NeverWaitsPastADeadline) {
  BatchState s = waiting();
  s.deadline_ns = 1'300'000;
  EXPECT_EQ(close_batch(s, 1'000'000).wait_until_ns, 1'100'000U);
  s.deadline_ns = 1'100'000;
  EXPECT_TRUE(close_batch(s, 1'000'000).close);
  s.deadline_ns = 10;
  EXPECT_TRUE(close_batch(s, 1'000'000).close);
}

}  // namespace
}  // namespace mayfly::policy
