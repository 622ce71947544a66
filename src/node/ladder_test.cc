// What a node holds while nobody calls, and who goes when memory is short.
#include "node/played_node.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMi = 1ULL << 20;

class LadderTest : public NodeTest {
 protected:
  explicit LadderTest(std::uint64_t memory_budget = 1ULL << 40) : NodeTest(memory_budget) {}
  // A version of one request at a time, which a test may still change.
  static std::shared_ptr<Version> changed(const VersionPtr& v) {
    auto copy = std::make_shared<Version>(*v);
    copy->settings.idle_ms = 0;
    copy->settings.memory_bytes = 60 * kMi;  // what an instance that was not measured counts as
    return copy;
  }
  std::shared_ptr<Version> single(std::uint32_t max) { return changed(version(1, max, 1)); }
  int instances(const VersionPtr& v, InstancePhase phase) const {
    const Pool* p = node_.find(*v);
    if (p == nullptr) return 0;
    return static_cast<int>(std::count_if(p->instances().begin(), p->instances().end(),
                                          [phase](const auto& i) { return i->phase() == phase; }));
  }
  int parked(const VersionPtr& v) const { return instances(v, InstancePhase::kParked); }
};

TEST_F(LadderTest, AParkedInstanceIsMadeAheadAndAnswersWithoutAStart) {
  auto v = single(1);
  v->settings.parked = 1;
  node_.keep(v);
  until([&] { return parked(v) == 1; });
  EXPECT_EQ(answer(v, {1, 2}), "3");
  EXPECT_EQ(events_.times["starting"], 1);
  EXPECT_EQ(events_.times["resumed"], 1);
  EXPECT_TRUE(node_.record(*v)->measures.resume.measured());
  until([&] { return parked(v) == 1; });  // and it is parked again when it is idle
  EXPECT_EQ(answer(v, {2, 2}), "4");
  EXPECT_EQ(events_.times["starting"], 1);
}

TEST_F(LadderTest, TheRequestThatWokeItIsToldSo) {
  auto v = single(1);
  v->settings.parked = 1;
  node_.keep(v);
  until([&] { return parked(v) == 1; });
  std::vector<StartKind> kinds;
  const auto take = [&]() -> Task<void> {
    for (int i = 0; i < 2; ++i) {
      Ask a;
      a.deadline_ns = now_ns() + 20'000'000'000;
      auto lease = co_await node_.acquire(v, a);
      if (!lease.ok()) co_return;
      kinds.push_back(lease->start());
      SlotRequest rq;
      fill(*lease, {1, 1}, rq);
      SlotResult result;
      static_cast<void>(co_await lease->run(rq, result, a.deadline_ns, nullptr));
    }
  };
  asio::co_spawn(io_, take(), asio::detached);
  until([&] { return kinds.size() == 2; });
  EXPECT_EQ(kinds, (std::vector{StartKind::kParked, StartKind::kWarm}));
}

TEST_F(LadderTest, ABurstTakesTheParkedOneAndStartsTheRest) {
  auto v = single(3);
  v->settings.parked = 1;
  node_.keep(v);
  until([&] { return parked(v) == 1; });
  host_.hold();
  std::vector<Answer> answers(3);
  for (Answer& a : answers) ask(v, {1, 1}, a);
  until([&] { return events_.times["starting"] == 3; });
  host_.release();
  until([&] { return std::all_of(answers.begin(), answers.end(), [](const Answer& a) { return a.done(); }); });
  for (const Answer& a : answers) EXPECT_EQ(a.text, "2");
  EXPECT_EQ(events_.times["resumed"], 1);
  until([&] { return parked(v) == 1 && node_.find(*v)->instances().size() == 1; });
}

// So many start at a time; the others when those have their sessions, though their first runs take long. Whoever waits
// for one has a place, whatever `queue` is.
TEST_F(LadderTest, ALargeBurstStartsInTurnsAndNobodyIsRefused) {
  const std::uint32_t limit = node_.max_starting(), all = 3 * limit;
  auto v = single(all);
  v->settings.queue = 0;
  v->settings.idle_ms = 60'000;
  host_.hold();
  std::vector<Answer> answers(all);
  for (Answer& a : answers) ask(v, {1, 2}, a);
  until([&] { return events_.times["starting"] == static_cast<int>(all); });
  host_.release();
  until([&] { return std::all_of(answers.begin(), answers.end(), [](const Answer& a) { return a.done(); }); });
  for (const Answer& a : answers) EXPECT_EQ(a.text, "3");
}

TEST_F(LadderTest, AWakeOfManyStartsThemInTurns) {
  const std::uint32_t limit = node_.max_starting();
  auto v = single(3 * limit);
  v->settings.idle_ms = 60'000;
  node_.wake(v, 2 * limit + 1);
  EXPECT_EQ(instances(v, InstancePhase::kStarting), static_cast<int>(limit));
  until([&] { return instances(v, InstancePhase::kReady) == static_cast<int>(2 * limit + 1); });
}

TEST_F(LadderTest, AParkedOneThatDiesIsReplaced) {
  auto v = single(1);
  v->settings.parked = 1;
  node_.keep(v);
  until([&] { return parked(v) == 1; });
  const std::uint64_t first = node_.find(*v)->instances().front()->id();
  host_.kill(first);
  until([&] { return parked(v) == 1 && node_.find(*v)->instances().front()->id() != first; });
  EXPECT_EQ(answer(v, {1, 2}), "3");
}

TEST_F(LadderTest, ARetiredVersionHoldsNothing) {
  auto v = single(2);
  v->settings.parked = 2;
  node_.keep(v);
  until([&] { return parked(v) == 2; });
  node_.retire(*v);
  until([&] { return node_.find(*v) == nullptr; });
  EXPECT_EQ(node_.record(*v), nullptr);
}

TEST_F(LadderTest, AWakeResumesBeforeItStarts) {
  auto v = single(3);
  v->settings.parked = 1;
  v->settings.idle_ms = 60'000;
  node_.keep(v);
  until([&] { return parked(v) == 1; });
  node_.wake(v, 2);
  until([&] { return instances(v, InstancePhase::kReady) == 2; });
  EXPECT_EQ(events_.times["resumed"], 1);
  EXPECT_EQ(events_.times["starting"], 2);
}

TEST_F(LadderTest, ABudgetThatZeroKeepsHoldsNothing) {
  auto v = single(1);
  v->settings.cold_start_budget_ms = 60'000;
  node_.keep(v);
  EXPECT_EQ(node_.find(*v)->hold().parked, 1U) << "a start has to be measured first";
  until([&] { return node_.record(*v)->measures.start.measured() && node_.find(*v)->instances().empty(); });
  EXPECT_TRUE(node_.find(*v)->hold().within_budget);
}

TEST_F(LadderTest, WhatWasMeasuredOutlivesThePool) {
  const auto v = single(1);
  EXPECT_EQ(answer(v, {1, 2}), "3");
  until([&] { return node_.find(*v) == nullptr; });
  ASSERT_NE(node_.record(*v), nullptr);
  EXPECT_TRUE(node_.record(*v)->measures.start.measured());
  EXPECT_EQ(node_.record(*v)->events.back().what, "ended");
}

// Room for one instance of 60 MiB.
class SmallNodeTest : public LadderTest {
 protected:
  SmallNodeTest() : LadderTest(100 * kMi) {}
};

TEST_F(SmallNodeTest, AnIdleInstanceGoesForAnotherVersion) {
  auto a = single(1), b = single(1);
  a->settings.idle_ms = b->settings.idle_ms = 60'000;
  EXPECT_EQ(answer(a, {1, 2}), "3");
  EXPECT_EQ(answer(b, {2, 2}), "4");
  until([&] { return node_.find(*a) == nullptr; });
  EXPECT_EQ(node_.evictions(), 1U);
  EXPECT_NE(node_.record(*a)->last_eviction.find("memory budget of 100 MiB"), std::string::npos);
  EXPECT_LE(node_.memory().used(), node_.memory().budget);
}

TEST_F(SmallNodeTest, ABusyOneNeverGoesAndTheOtherWaitsForIt) {
  auto a = single(1), b = single(1);
  a->settings.idle_ms = 60'000;
  Answer busy, waits;
  occupy(a, busy);
  ask(b, {2, 2}, waits);
  io_.restart();
  io_.run_for(20ms);
  EXPECT_FALSE(waits.done());
  EXPECT_TRUE(node_.find(*b)->lacks_room());
  host_.release();
  until([&] { return busy.done() && waits.done(); });
  EXPECT_EQ(busy.text, "2");
  EXPECT_EQ(waits.text, "4");
}

TEST_F(SmallNodeTest, WhoFindsNoRoomWithinItsDeadlineIsToldWhy) {
  auto a = single(1), b = single(1);
  Answer busy, late;
  occupy(a, busy);
  ask(b, {2, 2}, late, nullptr, 50'000'000);
  until([&] { return late.done(); });
  EXPECT_EQ(late.text, "node_full");
  host_.release();
  until([&] { return busy.done(); });
}

TEST_F(SmallNodeTest, WhatItsOwnerKeepsWarmStays) {
  auto a = single(1), b = single(1);
  a->settings.min_instances = 1;
  node_.keep(a);
  until([&] { return instances(a, InstancePhase::kReady) == 1; });
  Answer late;
  ask(b, {2, 2}, late, nullptr, 50'000'000);
  until([&] { return late.done(); });
  EXPECT_EQ(late.text, "node_full");
  EXPECT_EQ(node_.evictions(), 0U);
}

TEST_F(SmallNodeTest, NobodyGoesForWhatIsHeldAhead) {
  auto a = single(1), b = single(1);
  a->settings.idle_ms = 60'000;
  EXPECT_EQ(answer(a, {1, 2}), "3");
  b->settings.parked = 1;
  node_.keep(b);
  io_.restart();
  io_.run_for(250ms);
  EXPECT_EQ(instances(a, InstancePhase::kReady), 1);
  EXPECT_TRUE(node_.find(*b)->instances().empty());
  EXPECT_EQ(answer(b, {2, 2}), "4");  // a request is another matter
  until([&] { return parked(b) == 1; });
}

}  // namespace
}  // namespace mayfly
