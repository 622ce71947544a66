#include "policy/hold.h"

#include <gtest/gtest.h>

namespace mayfly::policy {
namespace {

constexpr std::uint64_t kHour = 3600, kDay = 24 * kHour;
constexpr std::uint64_t kMonday = 4 * kDay;  // 1970-01-05 00:00 UTC

TEST(ProvisionWindow, OpensAndClosesOnItsDays) {
  const ProvisionWindow office{0x1F, 8 * 60, 18 * 60, 3};  // Monday to Friday, 8:00 to 18:00
  const auto at = [&](std::uint64_t s) { return provisioned_at({&office, 1}, s); };
  EXPECT_EQ(at(kMonday + 8 * kHour - 1), 0u);
  EXPECT_EQ(at(kMonday + 8 * kHour), 3u);
  EXPECT_EQ(at(kMonday + 18 * kHour - 1), 3u);
  EXPECT_EQ(at(kMonday + 18 * kHour), 0u);
  EXPECT_EQ(at(kMonday + 4 * kDay + 12 * kHour), 3u) << "Friday";
  EXPECT_EQ(at(kMonday + 5 * kDay + 12 * kHour), 0u) << "Saturday";
}

TEST(ProvisionWindow, MayEndOnTheNextDay) {
  const ProvisionWindow night{1U << 6, 22 * 60, 6 * 60, 2};  // Sunday night
  const auto at = [&](std::uint64_t s) { return provisioned_at({&night, 1}, s); };
  EXPECT_EQ(at(kMonday + 6 * kDay + 23 * kHour), 2u);
  EXPECT_EQ(at(kMonday + 7 * kDay + 5 * kHour), 2u) << "Monday morning";
  EXPECT_EQ(at(kMonday + 7 * kDay + 6 * kHour), 0u);
  EXPECT_EQ(at(kMonday + 5 * kHour), 2u) << "the Sunday before";
  EXPECT_EQ(at(kMonday + kDay + 5 * kHour), 0u);
}

TEST(ProvisionWindow, OfEqualEndsIsAWholeDay) {
  const ProvisionWindow all{0x7F, 0, 0, 1}, noon{1, 12 * 60, 12 * 60, 1};
  for (std::uint64_t m = 0; m < 7 * kDay; m += 600) EXPECT_EQ(provisioned_at({&all, 1}, kMonday + m), 1u);
  EXPECT_EQ(provisioned_at({&noon, 1}, kMonday + kDay + 11 * kHour), 1u);
  EXPECT_EQ(provisioned_at({&noon, 1}, kMonday + kDay + 12 * kHour), 0u);
}

TEST(ProvisionWindow, TheLargestOpenOneCounts) {
  const ProvisionWindow both[] = {{0x7F, 0, 0, 1}, {0x7F, 60, 120, 5}, {0x7F, 60, 120, 2}};
  EXPECT_EQ(provisioned_at(both, kMonday + kHour), 5u);
  EXPECT_EQ(provisioned_at(both, kMonday + 3 * kHour), 1u);
}

struct Row {
  const char* what;
  HoldState state;
  std::uint32_t warm, parked;
  bool within_budget;
};

TEST(Hold, IsWhatTheOwnerAsksForAndWhatTheBudgetNeeds) {
  constexpr std::uint64_t kMs = 1'000'000;
  const auto live = [](HoldState s) {
    s.live = true;
    if (s.max == 1) s.max = 10;
    return s;
  };
  const Row rows[] = {
      {"nothing by default", live({}), 0, 0, true},
      {"min is warm", live({.min = 2}), 2, 0, true},
      {"the larger of min and provisioned", live({.min = 2, .provisioned = 5}), 5, 0, true},
      {"parked beside warm", live({.min = 1, .parked = 3}), 1, 3, true},
      {"at most max, warm first", live({.min = 2, .parked = 3, .max = 4}), 2, 2, true},
      {"a retired version holds nothing", {.min = 2, .parked = 3, .max = 9, .budget_ns = kMs}, 0, 0, true},
      {"not measured yet: a start is needed", live({.budget_ns = 5 * kMs}), 0, 1, false},
      {"zero is quick enough", live({.budget_ns = 5 * kMs, .cold_ns = 4 * kMs}), 0, 0, true},
      {"zero is too slow", live({.budget_ns = 5 * kMs, .cold_ns = 8 * kMs, .resume_ns = kMs}), 0, 1, true},
      {"a resume was not measured", live({.budget_ns = 5 * kMs, .cold_ns = 8 * kMs}), 0, 1, false},
      {"parked is too slow", live({.budget_ns = kMs, .cold_ns = 8 * kMs, .resume_ns = 2 * kMs}), 1, 0, true},
      {"a warm one keeps any budget", live({.min = 1, .budget_ns = 1, .cold_ns = 8 * kMs}), 1, 0, true},
      {"a wish for parked ones stays", live({.parked = 2, .budget_ns = 5 * kMs, .cold_ns = kMs}), 0, 2, true},
  };
  for (const Row& r : rows) {
    const Hold h = what_to_hold(r.state);
    EXPECT_EQ(h.warm, r.warm) << r.what;
    EXPECT_EQ(h.parked, r.parked) << r.what;
    EXPECT_EQ(h.within_budget, r.within_budget) << r.what;
    EXPECT_FALSE(h.reason.empty()) << r.what;
  }
}

}  // namespace
}  // namespace mayfly::policy
