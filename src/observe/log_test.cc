// The log never waits for its reader: a pipe that nobody reads, and what is told of it afterwards.
#include "observe/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>

namespace mayfly {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_ = Fd(ends[0]);
    write_ = Fd(ends[1]);
    ASSERT_EQ(fcntl(write_.get(), F_SETPIPE_SZ, 4096), 4096);
  }
  // All lines until one that contains `last`.
  std::vector<std::string> read_until(std::string_view last) {
    std::vector<std::string> lines(1);
    for (;;) {
      pollfd p{read_.get(), POLLIN, 0};
      char c = 0;
      if (poll(&p, 1, 20'000) != 1 || ::read(read_.get(), &c, 1) != 1) return lines;
      if (c != '\n')
        lines.back() += c;
      else if (lines.back().find(last) != std::string::npos)
        return lines;
      else
        lines.emplace_back();
    }
  }
  Fd read_, write_;
};

std::string line(int i) { return fmt::format(R"({{"n":{},"pad":"{}"}})", i, std::string(80, 'x')); }

TEST_F(LogTest, WritesLinesInOrder) {
  Log log(write_.get());
  log.request("a", "{\"n\":1}");
  EXPECT_TRUE(log.pending());
  log.event("a", "{\"n\":2}");
  EXPECT_FALSE(log.pending());
  log.event("", "{\"n\":3}");
  EXPECT_EQ(read_until("3"), (std::vector<std::string>{"{\"n\":1}", "{\"n\":2}", "{\"n\":3}"}));
  EXPECT_EQ(log.tail("a", 10), (std::vector<std::string>{"{\"n\":1}", "{\"n\":2}"}));
}

TEST_F(LogTest, UnreadPipeHoldsNobodyUpAndTheGapIsCounted) {
  constexpr int kLines = 5000;  // 500 KB into 4 KiB of pipe and 64 KiB of queue
  Log log(write_.get(), 65536);
  const auto begin = Clock::now();
  for (int i = 0; i < kLines; ++i) log.event("a", line(i));
  EXPECT_LT(Clock::now() - begin, 5s);
  EXPECT_TRUE(log.pending());
  log.flush();
  EXPECT_TRUE(log.pending());  // still no room
  EXPECT_EQ(log.tail("a", 1).front(), line(kLines - 1));

  // Read enough for the thread to go on; then the gap is told, in its place and once.
  std::vector<std::string> lines = read_until("\"n\":500,");
  const auto end = Clock::now() + 20s;
  while (log.pending() && Clock::now() < end) {
    log.flush();
    pollfd p{read_.get(), POLLIN, 0};
    if (poll(&p, 1, 10) == 1) {
      auto more = read_until("\"n\":");
      lines.insert(lines.end(), more.begin(), more.end());
    }
  }
  log.event("", "{\"end\":1}");
  auto rest = read_until("\"end\"");
  lines.insert(lines.end(), rest.begin(), rest.end());
  ASSERT_GE(lines.size(), 3U);
  EXPECT_EQ(lines.back(), "{\"end\":1}");
  const std::string& gap = lines[lines.size() - 2];
  const auto at = gap.find(R"("event":"log_lines_dropped","count":)");
  ASSERT_NE(at, std::string::npos) << gap;
  const int dropped = std::atoi(gap.c_str() + at + 36);
  EXPECT_EQ(dropped + static_cast<int>(lines.size()) - 2, kLines);
  for (int i = 0; i + 2 < static_cast<int>(lines.size()); ++i) ASSERT_EQ(lines[static_cast<std::size_t>(i)], line(i));
}

TEST_F(LogTest, CloseWritesWhatIsLeftAndWaitsForABoundedTime) {
  {
    Log log(write_.get());
    log.request("a", line(1));
  }
  EXPECT_EQ(read_until("x").size(), 1U);
  Log log(write_.get());
  for (int i = 0; i < 1000; ++i) log.request("a", line(i));
  const auto begin = Clock::now();
  log.close(100ms);
  const auto took = Clock::now() - begin;
  EXPECT_GE(took, 100ms);
  EXPECT_LT(took, 5s);
  EXPECT_EQ(read_until("\"n\":999,").size(), 1000U);  // lets the writer end
}

TEST_F(LogTest, KeepsTheEndpointsThatWereWrittenToLast) {
  Log log(open("/dev/null", O_WRONLY | O_CLOEXEC));
  log.request("first", "{}");
  for (std::size_t i = 0; i < Log::kKeptEndpoints; ++i) {
    log.request("first", "{}");
    log.request(fmt::format("e{}", i), "{}");
  }
  EXPECT_EQ(log.tail("first", 1000).size(), Log::kKeptLines);
  EXPECT_TRUE(log.tail("e0", 10).empty());
  EXPECT_EQ(log.tail("e1", 10).size(), 1U);
  log.forget("e1");
  log.forget("e1");
  EXPECT_TRUE(log.tail("e1", 10).empty());
  log.request("late", "{}");
  EXPECT_EQ(log.tail("e2", 10).size(), 1U);
}

}  // namespace
}  // namespace mayfly
