// On a file in the build folder: a memory file system has no other place than the cache.
#include "node/prefetch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

namespace mayfly {
namespace {

constexpr std::uint64_t kBytes = 8ULL << 20;

class PrefetchTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = "prefetch_test_XXXXXX";
    fd_.reset(mkstemp(path.data()));
    ASSERT_TRUE(fd_.valid());
    unlink(path.c_str());
    const std::string megabyte(1 << 20, 'x');
    for (std::uint64_t i = 0; i < kBytes; i += megabyte.size())
      ASSERT_EQ(write(fd_.get(), megabyte.data(), megabyte.size()), static_cast<ssize_t>(megabyte.size()));
    ASSERT_EQ(fsync(fd_.get()), 0);
  }
  // Share of the pages of a range that are in memory.
  double cached(std::uint64_t offset, std::uint64_t bytes) {
    const Mapping m(mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd_.get(), 0), kBytes);
    std::vector<unsigned char> pages(kBytes / 4096);
    EXPECT_EQ(mincore(const_cast<void*>(m.data()), kBytes, pages.data()), 0);
    std::uint64_t in = 0;
    for (std::uint64_t i = offset / 4096; i < (offset + bytes) / 4096; ++i) in += pages[i] & 1;
    return static_cast<double>(in) / static_cast<double>(bytes / 4096);
  }
  bool drop() {
    posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
    return cached(0, kBytes) < 0.01;
  }
  static void wait(const Prefetch& p) {
    while (p.busy()) std::this_thread::yield();
  }
  Fd fd_;
};

TEST_F(PrefetchTest, ReadsTheRangesOfAFileThatIsNotInMemory) {
  if (!drop()) GTEST_SKIP() << "this file system does not drop pages";
  const auto p = std::make_shared<Prefetch>(Prefetch::Ranges{{0, 1 << 20}, {4 << 20, 3 << 20}});
  EXPECT_TRUE(p->begin(fd_.get()));
  wait(*p);
  for (int i = 0; i < 2000 && (cached(0, 1 << 20) < 1 || cached(4 << 20, 3 << 20) < 1); ++i) std::this_thread::yield();
  EXPECT_EQ(cached(0, 1 << 20), 1.0);
  EXPECT_EQ(cached(4 << 20, 3 << 20), 1.0);
  EXPECT_LT(cached(2 << 20, 1 << 20), 0.5);  // the gap is not read
}

TEST_F(PrefetchTest, LeavesAFileInMemoryAlone) {
  ASSERT_EQ(cached(0, kBytes), 1.0);
  EXPECT_FALSE(std::make_shared<Prefetch>(Prefetch::Ranges{{0, kBytes}})->begin(fd_.get()));
}

TEST_F(PrefetchTest, NothingToRead) { EXPECT_FALSE(std::make_shared<Prefetch>(Prefetch::Ranges{})->begin(fd_.get())); }

TEST_F(PrefetchTest, RangesBehindTheEndAndBadDescriptorsDoNoHarm) {
  const auto p = std::make_shared<Prefetch>(Prefetch::Ranges{{kBytes * 4, kBytes}});
  p->begin(fd_.get());
  wait(*p);
  EXPECT_FALSE(p->begin(-1));
}

}  // namespace
}  // namespace mayfly
