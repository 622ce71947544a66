#include "node/tier_watch.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <vector>

namespace mayfly {
namespace {

constexpr std::uint64_t kMi = 1ULL << 20;

class TierWatchTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    use(20 * kMi);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void use(std::uint64_t bytes) {
    std::ofstream(folder_ + "/memory.stat")
        << "file 99999999999\nanon " << bytes / 2 << "\nshmem " << bytes / 2 << "\n";
  }
  bool run(std::uint64_t limit = 512 * kMi) {
    return watch_.after_run(plan_, arena_, folder_ + "/memory.current", limit);
  }
  bool asked() const { return arena_.header().tier.wanted.load() != 0; }

  std::string folder_ = (std::filesystem::temp_directory_path() / "mayfly_tier_XXXXXX").string();
  policy::TierPlan plan_{true, 10, 50, 40 * kMi};
  std::vector<std::byte> memory_ = std::vector<std::byte>(sizeof(ArenaHeader) + 128);
  ArenaView arena_ = [this] {
    void* p = memory_.data();
    std::size_t room = memory_.size();
    return ArenaView(std::align(64, sizeof(ArenaHeader), p, room), {});
  }();
  TierWatch watch_;
};

TEST_F(TierWatchTest, AsksOnceWhenItPays) {
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(run());
  EXPECT_TRUE(run());
  EXPECT_TRUE(asked());
  EXPECT_FALSE(run());
}

TEST_F(TierWatchTest, NeverAsksWhereItIsOff) {
  plan_.allowed = false;
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(run());
  EXPECT_EQ(watch_.name(), "mapped");
}

TEST_F(TierWatchTest, StaysMappedWithoutMemoryAndLooksAgainLater) {
  for (int i = 0; i < 6; ++i) EXPECT_FALSE(run(64 * kMi));
  EXPECT_EQ(watch_.name(), "no_memory");
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(run());  // looks after twice as many runs
  EXPECT_TRUE(run());
  EXPECT_EQ(watch_.name(), "mapped");
}

TEST_F(TierWatchTest, StaysMappedWhereMemoryCantBeRead) {
  std::filesystem::remove(folder_ + "/memory.stat");
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(run());
  EXPECT_EQ(watch_.name(), "no_memory");
  EXPECT_FALSE(asked());
}

TEST_F(TierWatchTest, ShowsWhatTheInstanceSaysAndNothingElse) {
  const auto say = [this](std::uint32_t tier) {
    arena_.header().tier.tier = tier;
    return watch_.changed(arena_);
  };
  EXPECT_FALSE(say(0));
  EXPECT_TRUE(say(1));
  EXPECT_EQ(watch_.name(), "building");
  EXPECT_FALSE(say(1));
  EXPECT_FALSE(say(77));
  EXPECT_TRUE(say(2));
  EXPECT_EQ(watch_.name(), "packed");
  EXPECT_TRUE(say(3));
  EXPECT_EQ(watch_.name(), "failed");
}

TEST(Unreclaimable, ReadsBothVersionsOfCgroups) {
  std::string folder = (std::filesystem::temp_directory_path() / "mayfly_stat_XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  std::uint64_t bytes = 0;
  std::ofstream(folder + "/memory.stat") << "cache 7\nrss 10\nshmem 5\nmapped_file 3\ntotal_rss 1000\n";
  EXPECT_TRUE(unreclaimable_bytes(folder + "/memory.usage_in_bytes", bytes));
  EXPECT_EQ(bytes, 15U);
  std::ofstream(folder + "/memory.stat") << "garbage";
  EXPECT_FALSE(unreclaimable_bytes(folder + "/memory.usage_in_bytes", bytes));
  EXPECT_FALSE(unreclaimable_bytes("", bytes));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace mayfly
