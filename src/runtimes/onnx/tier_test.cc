// The two forms of a model: what a deploy finds, the change between two runs, and which parts of an artefact a run
// reads.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/fd.h"
#include "runtimes/onnx/tier_check.h"
#include "runtimes/onnx/tier_up.h"
#include "runtimes/onnx/working_set.h"

namespace mayfly {
namespace {

const Ort& ort() {
  static const auto loaded = [] {
    auto r = OnnxRuntime::load(MAYFLY_DEPS_DIR "/onnxruntime/libonnxruntime.so.1.32.0");
    MAYFLY_CHECK(r.ok());
    return std::move(*r);
  }();
  return ort_of(*loaded);
}

// The artefact of a model of tests/models, in a memfd.
struct Artefact {
  Fd fd;
  Mapping mapping;
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(mapping.data()), mapping.size()}; }
};

Artefact compile(const std::string& name) {
  std::ifstream f(MAYFLY_SOURCE_DIR "/tests/models/" + name, std::ios::binary);
  const std::string model{std::istreambuf_iterator<char>(f), {}};
  Artefact a;
  const Fd in(memfd_create("model", MFD_CLOEXEC));
  a.fd.reset(memfd_create("artefact", MFD_CLOEXEC));
  MAYFLY_CHECK(write(in.get(), model.data(), model.size()) == static_cast<ssize_t>(model.size()));
  std::string scratch = (std::filesystem::temp_directory_path() / "mayfly_tier_XXXXXX").string();
  MAYFLY_CHECK(mkdtemp(scratch.data()) != nullptr);
  std::vector<char> report(1 << 16);
  LoadedRuntime runtime(ort(), "test");
  const int status = run_compile({.runtime = &runtime,
                                  .model_fd = in.get(),
                                  .model_bytes = model.size(),
                                  .artefact_fd = a.fd.get(),
                                  .scratch_dir = scratch,
                                  .report = report});
  std::filesystem::remove_all(scratch);
  EXPECT_EQ(status, 0) << report.data();
  EXPECT_NE(std::string(report.data()).find(R"("tier":{"worth":)"), std::string::npos) << report.data();
  EXPECT_NE(std::string(report.data()).find(R"("working_set":{"bytes":)"), std::string::npos) << report.data();
  const auto size = static_cast<std::size_t>(lseek(a.fd.get(), 0, SEEK_END));
  a.mapping = Mapping(mmap(nullptr, size, PROT_READ, MAP_SHARED, a.fd.get(), 0), size);
  return a;
}

TEST(TierCheck, ClearlyFasterNeedsShareTimeAndMostOfThePairs) {
  const auto runs = [](double mapped, double packed, int won) { return TierRuns{1, mapped, packed, 30, won}; };
  EXPECT_TRUE(clearly_faster(runs(10, 8, 30)));
  EXPECT_TRUE(clearly_faster(runs(10, 9.4, 20)));
  EXPECT_FALSE(clearly_faster(runs(10, 9.4, 19)));      // noise
  EXPECT_FALSE(clearly_faster(runs(10, 9.6, 30)));      // 4 %
  EXPECT_FALSE(clearly_faster(runs(0.03, 0.015, 30)));  // 15 us
  EXPECT_TRUE(slower(runs(10, 10.3, 5)));
  EXPECT_FALSE(slower(runs(10, 10.1, 5)));
  EXPECT_FALSE(slower(runs(10, 10.3, 15)));
}

TEST(TierCheck, ReportsWhatItMeasured) {
  TierCheck c;
  c.worth = true;
  c.reason = "a \"reason\"";
  EXPECT_EQ(tier_report(c), R"({"worth":true,"reason":"a \"reason\""})");
  c.shown = {8, 2.5, 1.25, 60, 59};
  c.packed_load_ms = 3;
  c.packed_bytes = 7;
  EXPECT_EQ(tier_report(c),
            R"({"worth":true,"reason":"a \"reason\"","dim":8,"runs":60,"won":59,"mapped_ms":2.5000,"packed_ms":1.2500,)"
            R"("packed_load_ms":3.00,"packed_bytes":7})");
}

TEST(TierCheck, MeasuresBothForms) {
  const Artefact a = compile("letter_mlp.onnx");
  auto mapped = LoadedModel::create(ort(), a.bytes(), {}, ArenaView());
  ASSERT_TRUE(mapped.ok());
  const TierCheck c = compare_tiers(ort(), a.bytes(), *(*mapped)->runner, 1, 0.01);
  EXPECT_GT(c.shown.runs, 0) << c.reason;
  EXPECT_GT(c.shown.packed_ms, 0);
  EXPECT_GT(c.packed_load_ms, 0);
  const TierCheck skipped = compare_tiers(ort(), a.bytes(), *(*mapped)->runner, 1, kTierMaxRunMs + 1);
  EXPECT_FALSE(skipped.worth);
  EXPECT_EQ(skipped.shown.runs, 0);
}

class TierUpTest : public testing::Test {
 protected:
  void SetUp() override {
    geometry_ = {1, 4096, 4096};
    void* p = mmap(nullptr, geometry_.total_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memory_ = Mapping(p, geometry_.total_bytes());
    arena_ = ArenaView(p, geometry_);
    arena_.header().threads = 1;
    wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    done_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  }
  Tier tier() const { return static_cast<Tier>(arena_.header().tier.tier.load()); }
  // Serves until the tier is no longer `from`; each run in between has to be right.
  void serve_while(Tier from, TierUp& up, std::unique_ptr<LoadedModel>& model) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (tier() == from && std::chrono::steady_clock::now() < end) {
      up.look(model);
      ASSERT_TRUE(model->runner->probe(4).ok());
      std::this_thread::yield();  // the other thread has the lowest weight
    }
    ASSERT_NE(tier(), from);
  }
  ArenaGeometry geometry_;
  Mapping memory_;
  ArenaView arena_;
  Fd wake_, done_;
};

TEST_F(TierUpTest, ChangesBetweenTwoRuns) {
  for (const std::uint32_t threads : {1U, 2U}) {
    const Artefact a = compile("letter_mlp.onnx");
    arena_.header().threads = threads;
    arena_.header().tier.wanted = 0;
    arena_.header().tier.tier = 0;
    auto model = LoadedModel::create(ort(), a.bytes(), {.threads = threads}, arena_);
    ASSERT_TRUE(model.ok());
    const LoadedModel* before = model->get();
    TierUp up(ort(), a.bytes(), arena_, wake_.get(), done_.get());
    up.look(*model);
    EXPECT_EQ(tier(), Tier::kMapped);  // nobody asked
    arena_.header().tier.wanted = 1;
    serve_while(Tier::kMapped, up, *model);
    serve_while(Tier::kBuilding, up, *model);
    EXPECT_EQ(tier(), Tier::kPacked);
    EXPECT_NE(model->get(), before);
    EXPECT_GT(arena_.header().tier.build_ns.load(), 0U);
    EXPECT_TRUE((*model)->runner->probe(1).ok());
    std::uint64_t n = 0;
    EXPECT_EQ(read(wake_.get(), &n, sizeof n), static_cast<ssize_t>(sizeof n));  // a sleeping instance is woken
    EXPECT_EQ(read(done_.get(), &n, sizeof n), static_cast<ssize_t>(sizeof n));  // and the server told
  }
}

TEST_F(TierUpTest, AFailureLeavesTheMappedForm) {
  const Artefact a = compile("iris_logreg.onnx");
  auto model = LoadedModel::create(ort(), a.bytes(), {}, arena_);
  ASSERT_TRUE(model.ok());
  const LoadedModel* before = model->get();
  const std::vector<std::byte> garbage(4096);
  TierUp up(ort(), garbage, arena_, wake_.get(), done_.get());
  arena_.header().tier.wanted = 1;
  serve_while(Tier::kMapped, up, *model);
  serve_while(Tier::kBuilding, up, *model);
  EXPECT_EQ(tier(), Tier::kFailed);
  up.look(*model);
  EXPECT_EQ(model->get(), before);
  EXPECT_TRUE((*model)->runner->probe(1).ok());
}

TEST_F(TierUpTest, EndsWhileItBuilds) {
  const Artefact a = compile("digits_cnn.onnx");
  auto model = LoadedModel::create(ort(), a.bytes(), {}, arena_);
  ASSERT_TRUE(model.ok());
  arena_.header().tier.wanted = 1;
  {
    TierUp up(ort(), a.bytes(), arena_, wake_.get(), done_.get());
    up.look(*model);
  }
  EXPECT_EQ(tier(), Tier::kBuilding);  // never exchanged
}

TEST(WorkingSet, JoinsBlocksAndSmallGaps) {
  using Ranges = std::vector<ByteRange>;
  EXPECT_EQ(join_blocks({}, 10, 0), Ranges{});
  EXPECT_EQ(join_blocks({true, true, false, false, false, true}, 10, 55), (Ranges{{0, 20}, {50, 5}}));
  EXPECT_EQ(join_blocks({true, false, true}, 10, 30), (Ranges{{0, 30}}));
}

TEST(WorkingSet, HasALimitOnRanges) {
  std::vector<bool> sparse(4096);
  for (std::size_t i = 0; i < sparse.size(); i += 4) sparse[i] = true;
  const auto ranges = join_blocks(sparse, 10, 40960);
  EXPECT_LE(ranges.size(), kMaxWorkingRanges);
  EXPECT_EQ(ranges.front().offset, 0U);
  EXPECT_EQ(ranges.back().offset + ranges.back().bytes, 4092U * 10 + 10);
}

TEST(WorkingSet, TracesWhatARunReads) {
  const Artefact a = compile("letter_mlp.onnx");
  const auto size = a.bytes().size();
  const auto ranges = trace_working_set(ort(), a.fd.get(), size, 1);
  ASSERT_FALSE(ranges.empty());
  std::uint64_t sum = 0, end = 0;
  for (const ByteRange& r : ranges) {
    EXPECT_GE(r.offset, end);
    end = r.offset + r.bytes;
    sum += r.bytes;
  }
  EXPECT_LE(end, size);
  EXPECT_GT(sum, size / 2);  // a dense net reads its weights
  // It can be done again, and a fault outside of it is not swallowed.
  EXPECT_EQ(trace_working_set(ort(), a.fd.get(), size, 1), ranges);
  EXPECT_DEATH(*static_cast<volatile int*>(nullptr) = 1, "");
}

TEST(WorkingSet, SaysNothingOfWhatDoesNotRun) {
  const Fd fd(memfd_create("x", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(fd.get(), 200'000), 0);
  EXPECT_TRUE(trace_working_set(ort(), fd.get(), 200'000, 1).empty());
}

}  // namespace
}  // namespace mayfly
