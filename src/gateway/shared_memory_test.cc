#include "gateway/oip/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

namespace mayfly {
namespace {

class SharedMemoryTest : public testing::Test {
 protected:
  SharedMemoryTest() {
    std::string name = (std::filesystem::temp_directory_path() / "mayfly-shm-XXXXXX").string();
    MAYFLY_CHECK(mkdtemp(name.data()) != nullptr);
    folder_ = name;
    write_file("seg", "0123456789");
    all_ = std::make_unique<SharedMemory>(Fd(open(name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)));
  }
  ~SharedMemoryTest() override { std::filesystem::remove_all(folder_); }
  void write_file(const std::string& name, std::string_view content) const { std::ofstream(folder_ / name) << content; }
  std::string reason(std::string_view name, std::string_view key, std::uint64_t offset, std::uint64_t bytes) {
    const Status s = all_->add("t", name, key, offset, bytes);
    return s.ok() ? "ok" : s.error().reason;
  }
  std::string read(std::string_view tenant, std::string_view name, std::uint64_t offset, std::size_t bytes) {
    std::string out(bytes, '?');
    const Status s = CallerRegions(*all_, tenant).read(name, offset, std::as_writable_bytes(std::span(out)));
    return s.ok() ? out : s.error().reason;
  }
  std::filesystem::path folder_;
  std::unique_ptr<SharedMemory> all_;
};

TEST_F(SharedMemoryTest, ReadsAndWritesInsideTheRegionOnly) {
  ASSERT_EQ(reason("r", "seg", 2, 6), "ok");
  EXPECT_EQ(read("t", "r", 0, 6), "234567");
  EXPECT_EQ(read("t", "r", 4, 2), "67");
  EXPECT_EQ(read("t", "r", 4, 3), "region_too_small");
  EXPECT_EQ(read("t", "r", 7, 0), "region_too_small");
  EXPECT_EQ(read("t", "r", ~0ULL, 1), "region_too_small");
  const CallerRegions mine(*all_, "t");
  const std::string text = "ab";
  EXPECT_TRUE(mine.write("r", 1, std::as_bytes(std::span(text))).ok());
  EXPECT_FALSE(mine.write("r", 5, std::as_bytes(std::span(text))).ok());
  EXPECT_FALSE(mine.check("r", 1, ~0ULL).ok());
  std::string all;
  std::getline(std::ifstream(folder_ / "seg"), all);
  EXPECT_EQ(all, "012ab56789");
}

TEST_F(SharedMemoryTest, BoundsOfTheFile) {
  EXPECT_EQ(reason("a", "seg", 0, 10), "ok");
  EXPECT_EQ(reason("b", "/seg", 10, 0), "invalid_region");
  EXPECT_EQ(reason("b", "/seg", 0, 11), "invalid_region");
  EXPECT_EQ(reason("b", "/seg", 1, 10), "invalid_region");
  EXPECT_EQ(reason("b", "/seg", ~0ULL, 2), "invalid_region");
  EXPECT_EQ(reason("b", "/seg", 9, 1), "ok");
}

TEST_F(SharedMemoryTest, OnlyRegularFilesRightInTheFolder) {
  std::filesystem::create_directory(folder_ / "dir");
  write_file("dir/inner", "0123456789");
  std::filesystem::create_symlink("seg", folder_ / "link");
  std::filesystem::create_symlink("/etc/passwd", folder_ / "out");
  MAYFLY_CHECK(mkfifo((folder_ / "fifo").c_str(), 0600) == 0);
  for (std::string_view key : {"link", "out", "dir", "fifo", "dir/inner", "../x", "..", ".", "", "/", "//seg", "none"})
    EXPECT_EQ(reason("r", key, 0, 1), "invalid_region") << key;
  EXPECT_EQ(reason("r", std::string_view("seg\0x", 5), 0, 1), "invalid_region");
  EXPECT_EQ(reason("r", std::string(256, 'a'), 0, 1), "invalid_region");
  EXPECT_EQ(reason("", "seg", 0, 1), "invalid_region");
}

TEST_F(SharedMemoryTest, BelongsToTheTenantThatRegistered) {
  ASSERT_EQ(reason("r", "seg", 0, 10), "ok");
  EXPECT_EQ(reason("r", "seg", 0, 10), "region_exists");
  EXPECT_EQ(read("other", "r", 0, 1), "region_not_found");
  EXPECT_TRUE(all_->add("other", "r", "seg", 1, 1).ok());
  EXPECT_EQ(read("other", "r", 0, 1), "1");
  all_->remove_all("t");
  EXPECT_EQ(read("t", "r", 0, 1), "region_not_found");
  EXPECT_EQ(read("other", "r", 0, 1), "1");
  EXPECT_TRUE(all_->remove("other", "r").ok());
  EXPECT_TRUE(all_->of("other").empty());
}

TEST_F(SharedMemoryTest, AFileThatShrinksIsAnErrorAndDoesNotGrowAgain) {
  ASSERT_EQ(reason("r", "seg", 0, 10), "ok");
  std::filesystem::resize_file(folder_ / "seg", 4);
  EXPECT_EQ(read("t", "r", 0, 4), "0123");
  EXPECT_EQ(read("t", "r", 0, 10), "region_too_small");
  const std::string text = "abcdef";
  EXPECT_FALSE(CallerRegions(*all_, "t").write("r", 0, std::as_bytes(std::span(text))).ok());
  EXPECT_EQ(std::filesystem::file_size(folder_ / "seg"), 4u);
}

TEST_F(SharedMemoryTest, ThereIsALimit) {
  for (std::size_t i = 0; i < SharedMemory::kMaxRegions; ++i) {
    const std::string r = reason("r" + std::to_string(i), "seg", 0, 1);
    if (r != "ok") {
      EXPECT_EQ(r, "invalid_region") << "descriptors ran out at " << i;
      return;
    }
  }
  EXPECT_EQ(reason("one more", "seg", 0, 1), "too_many_regions");
}

}  // namespace
}  // namespace mayfly
