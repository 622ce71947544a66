// Starts whose artefact is not on disk.
#include "node/supply.h"

#include <unistd.h>

#include <deque>
#include <filesystem>
#include <fstream>

#include "async/one_shot.h"
#include "node/played_node.h"

namespace mayfly {
namespace {

// Waits until the test says what comes of it.
class PlayedSupply final : public ArtefactSupply {
 public:
  Task<Result<Supplied>> supply(VersionPtr) override {
    ++asked;
    OneShot<Result<Supplied>>& mine = outcomes_.emplace_back();
    co_return co_await mine.wait();
  }
  void end(Result<Supplied> outcome) { outcomes_.back().set(std::move(outcome)); }
  void fail() { end(Error{Code::kUnavailable, "package_unavailable", "the store is down"}); }
  int asked = 0;

 private:
  std::deque<OneShot<Result<Supplied>>> outcomes_;  // a task may wait for each
};

class SupplyTest : public NodeTest {
 protected:
  SupplyTest() : path_(fmt::format("/tmp/mayfly-supply-test-{}", ::getpid())) {
    std::filesystem::remove(path_);
    node_.set_supply(supply_);
  }
  ~SupplyTest() override { std::filesystem::remove(path_); }
  std::shared_ptr<Version> missing(std::uint32_t max = 1) {
    auto v = std::make_shared<Version>(*version(16, max));
    v->artefact_path = path_;
    auto file = std::make_shared<ArtefactFile>();
    file->bytes = 8;
    v->artefact = file;
    return v;
  }
  void write(std::string_view content) { std::ofstream(path_, std::ios::trunc) << content; }
  void supply() {
    write("artefact");
    Supplied s;
    s.bytes = 8;
    supply_.end(s);
  }
  void await_asked(int n) {
    until([&] { return supply_.asked == n; });
  }

  std::string path_;
  PlayedSupply supply_;
};

TEST_F(SupplyTest, OneSupplyServesAllWhoWait) {
  const auto v = missing(4);
  std::vector<Answer> answers(40);
  for (Answer& a : answers) ask(v, {1, 2}, a);
  await_asked(1);
  node_.wake(v, 4);  // starts nothing beside it
  io_.restart();
  io_.run_for(20ms);
  EXPECT_EQ(supply_.asked, 1);
  EXPECT_EQ(events_.times["starting"], 0);
  EXPECT_NE(node_.find(*v)->supplying_since_ns(), 0u);
  supply();
  until([&] { return std::all_of(answers.begin(), answers.end(), [](const Answer& a) { return a.done(); }); });
  for (const Answer& a : answers) EXPECT_EQ(a.text, "3");
  EXPECT_EQ(supply_.asked, 1);
  EXPECT_EQ(events_.times["artefact_missing"], 1);
  EXPECT_EQ(events_.times["artefact_rebuilt"], 1);
  EXPECT_EQ(events_.times["starting"], 4);
  EXPECT_EQ(node_.record(*v)->counters.supplies, 1u);
  EXPECT_EQ(node_.record(*v)->counters.start_failures, 0u);
}

TEST_F(SupplyTest, AFileOfAnotherLengthIsMissing) {
  const auto v = missing();
  write("art");
  Answer a;
  ask(v, {1, 2}, a);
  await_asked(1);
  supply();
  until([&] { return a.done(); });
  EXPECT_EQ(a.text, "3");
  Answer again;
  ask(v, {2, 2}, again);
  until([&] { return again.done(); });
  EXPECT_EQ(supply_.asked, 1);
}

TEST_F(SupplyTest, AFailureIsToldToAllAndTheNextTryWaits) {
  const auto v = missing();
  std::vector<Answer> answers(3);
  for (Answer& a : answers) ask(v, {1, 2}, a);
  await_asked(1);
  supply_.fail();
  until([&] { return std::all_of(answers.begin(), answers.end(), [](const Answer& a) { return a.done(); }); });
  for (const Answer& a : answers) EXPECT_EQ(a.text, "package_unavailable");
  EXPECT_EQ(events_.times["artefact_unavailable"], 1);
  const Pool* pool = node_.find(*v);
  ASSERT_NE(pool, nullptr);
  std::uint64_t pause = pool->backoff_until_ns();
  EXPECT_NE(pause, 0u);
  // Each request either comes in the pause, and is told the same, or begins the next try, whose pause is later.
  for (int tries = 1; tries < 4;) {
    Answer a;
    ask(v, {1, 2}, a);
    until([&] { return a.done() || supply_.asked > tries; });
    if (supply_.asked > tries) {
      supply_.fail();
      until([&] { return a.done(); });
      ++tries;
      EXPECT_GT(node_.find(*v)->backoff_until_ns(), pause);
      pause = node_.find(*v)->backoff_until_ns();
    }
    EXPECT_EQ(a.text, "package_unavailable");
    io_.restart();
    io_.run_for(10ms);
  }
  until([&] { return now_ns() >= pause; });
  Answer a;
  ask(v, {1, 2}, a);
  await_asked(5);
  supply();
  until([&] { return a.done(); });
  EXPECT_EQ(a.text, "3");
}

TEST_F(SupplyTest, WhoWaitsKeepsItsDeadlineAndTheSupplyGoesOn) {
  const auto v = missing();
  Answer hurried, patient;
  ask(v, {1, 2}, hurried, nullptr, 30'000'000);
  ask(v, {1, 2}, patient);
  until([&] { return hurried.done(); });
  EXPECT_EQ(hurried.text, "deadline_exceeded");
  EXPECT_FALSE(patient.done());
  supply();
  until([&] { return patient.done(); });
  EXPECT_EQ(patient.text, "3");
  EXPECT_EQ(supply_.asked, 1);
}

TEST_F(SupplyTest, ACallerThatGoesAwayLeavesTheQueue) {
  const auto v = missing();
  CancelSignal cancel;
  Answer a;
  ask(v, {1, 2}, a, &cancel);
  await_asked(1);
  cancel.fire();
  until([&] { return a.done(); });
  EXPECT_EQ(a.text, "cancelled");
  supply();
  until([&] { return node_.find(*v) == nullptr; });
  EXPECT_EQ(events_.times["starting"], 0);  // nobody asks any more
}

TEST_F(SupplyTest, AWakeStartsWhatItAskedForAfterwards) {
  const auto v = missing(3);
  node_.wake(v, 2);
  await_asked(1);
  supply();
  until([&] { return events_.times["ready"] == 2; });
  EXPECT_EQ(events_.times["starting"], 2);
}

TEST_F(SupplyTest, AVersionThatIsRetiredMeanwhileStartsNothing) {
  const auto v = missing();
  node_.wake(v);
  await_asked(1);
  node_.retire(*v);
  io_.restart();
  io_.run_for(50ms);
  EXPECT_NE(node_.find(*v), nullptr);  // its supply is under way
  supply();
  until([&] { return node_.find(*v) == nullptr; });
  EXPECT_EQ(events_.times["starting"], 0);
  EXPECT_EQ(node_.record(*v), nullptr);
}

TEST_F(SupplyTest, WhoWaitsForARetiredVersionIsStillServed) {
  const auto v = missing();
  Answer a;
  ask(v, {1, 2}, a);
  await_asked(1);
  node_.retire(*v);
  supply();
  until([&] { return a.done(); });
  EXPECT_EQ(a.text, "3");
  until([&] { return node_.find(*v) == nullptr; });
}

TEST_F(SupplyTest, ANodeMayCloseInTheMiddleOfIt) {
  const auto v = missing();
  node_.wake(v);
  await_asked(1);
  bool closed = false;
  asio::co_spawn(io_, node_.close(now_ns() + 1'000'000'000), [&](std::exception_ptr, Ok) { closed = true; });
  until([&] { return closed; });
  supply();
  io_.restart();
  io_.run_for(20ms);
  EXPECT_EQ(events_.times["starting"], 0);
}

TEST_F(SupplyTest, WhatIsHeldComesBackByItself) {
  auto v = missing();
  v->settings.min_instances = 1;
  node_.keep(v);
  await_asked(1);
  supply_.fail();
  await_asked(2);  // after the pause, though nobody asks
  supply();
  until([&] { return events_.times["ready"] == 1; });
}

TEST_F(SupplyTest, TheWaitIsAPhaseOfTheStart) {
  const auto v = missing();
  Phases p;
  const auto take = [&]() -> Task<void> {
    Ask a;
    a.deadline_ns = now_ns() + 20'000'000'000;
    const std::uint64_t asked = now_ns();
    auto lease = co_await node_.acquire(v, a);
    if (!lease.ok()) co_return;
    p.queue = now_ns() - asked;
    SlotRequest rq;
    fill(*lease, {1, 1}, rq);
    SlotResult result;
    static_cast<void>(co_await lease->run(rq, result, a.deadline_ns, nullptr));
    lease->instance().add_start_phases(p);
    p.total = now_ns() - asked;
  };
  asio::co_spawn(io_, take(), asio::detached);
  await_asked(1);
  io_.restart();
  io_.run_for(5ms);
  supply();
  until([&] { return p.total != 0; });
  EXPECT_GT(p.fetch, p.queue);  // nearly all of what it waited
  EXPECT_LE(p.fetch + p.queue, p.total);
}

}  // namespace
}  // namespace mayfly
