// Batches, queues, cancels and deadlines of a node whose instances the test plays.
#include "node/played_node.h"

namespace mayfly {
namespace {

TEST_F(NodeTest, WhatArrivesWhileTheInstanceWorksRunsTogether) {
  const VersionPtr v = version();
  Answer first, a, b, c;
  occupy(v, first);
  ask(v, {1, 2}, a);
  ask(v, {3, 4, 5, 6}, b);
  ask(v, {7, 8}, c);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return a.done() && b.done() && c.done() && first.done(); });
  EXPECT_EQ(first.text, "2");
  EXPECT_EQ(a.text, "3");
  EXPECT_EQ(b.text, "7 11");
  EXPECT_EQ(c.text, "15");
  EXPECT_EQ(host_.runs(), (std::vector<std::int64_t>{1, 1, 4}));
}

TEST_F(NodeTest, WhatArrivesTogetherRunsTogether) {
  const VersionPtr v = version();
  Answer warm;
  ask(v, {0, 0}, warm);
  until([&] { return warm.done(); });
  std::vector<Answer> answers(5);
  for (std::size_t i = 0; i < answers.size(); ++i) ask(v, {float(i), 1}, answers[i]);
  until([&] { return std::all_of(answers.begin(), answers.end(), [](const Answer& a) { return a.done(); }); });
  for (std::size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i].text, fmt::format("{}", i + 1));
  EXPECT_EQ(host_.runs(), (std::vector<std::int64_t>{1, 5}));
}

TEST_F(NodeTest, AFullBatchGoesAndTheRestFollows) {
  const VersionPtr v = version(16, 1, 4);
  Answer first;
  occupy(v, first);
  std::vector<Answer> answers(6);
  for (auto& a : answers) ask(v, {1, 1}, a);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return std::all_of(answers.begin(), answers.end(), [](const Answer& a) { return a.done(); }); });
  for (const Answer& a : answers) EXPECT_EQ(a.text, "2");
  EXPECT_EQ(host_.runs(), (std::vector<std::int64_t>{1, 1, 4, 2}));
}

TEST_F(NodeTest, MoreRowsThanABatchTakesGoAlone) {
  const VersionPtr v = version(16, 1, 2);
  Answer a;
  ask(v, {1, 1, 2, 2, 3, 3}, a);
  until([&] { return a.done(); });
  EXPECT_EQ(a.text, "2 4 6");
}

TEST_F(NodeTest, APoisonedRowFailsNoNeighbour) {
  const VersionPtr v = version();
  Answer first, good, bad;
  occupy(v, first);
  ask(v, {1, 2}, good);
  ask(v, {kPoison, 0}, bad);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return good.done() && bad.done() && first.done(); });
  EXPECT_EQ(good.text, "3");
  EXPECT_EQ(bad.text, "poison");
  EXPECT_EQ(host_.runs(), (std::vector<std::int64_t>{1, 1, 2, 1, 1}));
}

TEST_F(NodeTest, OutputsThatAreNotRowByRowEndJoining) {
  const VersionPtr v = version();
  Answer first, a, b;
  occupy(v, first);
  ask(v, {kOneRowOnly, 2}, a);
  ask(v, {1, 2}, b);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return a.done() && b.done() && first.done(); });
  EXPECT_EQ(a.text, "15");
  EXPECT_EQ(b.text, "3");
  EXPECT_TRUE(events_.seen.contains("batching_off"));
}

TEST_F(NodeTest, ADeathIsRetriedApart) {
  const VersionPtr v = version();
  Answer first, a, b;
  occupy(v, first);
  ask(v, {1, 2}, a);
  ask(v, {3, 4}, b);
  io_.restart();
  io_.run_for(5ms);
  host_.die();
  until([&] { return first.done() && a.done() && b.done(); });
  EXPECT_EQ(first.text, "2");
  EXPECT_EQ(a.text, "3");
  EXPECT_EQ(b.text, "7");
}

TEST_F(NodeTest, ACallerWhoGoesLeavesTheQueue) {
  const VersionPtr v = version(1, 1, 1);
  Answer first, gone, kept;
  CancelSignal cancel;
  occupy(v, first);
  ask(v, {1, 2}, gone, &cancel);
  ask(v, {3, 4}, kept);
  io_.restart();
  io_.run_for(5ms);
  EXPECT_EQ(node_.find(*v)->waiting(), 2U);
  cancel.fire();
  until([&] { return gone.done(); });
  EXPECT_EQ(gone.text, "cancelled");
  EXPECT_EQ(node_.find(*v)->waiting(), 1U);
  host_.release();
  until([&] { return kept.done() && first.done(); });
  EXPECT_EQ(kept.text, "7");
  EXPECT_EQ(host_.runs().size(), 3U);
}

TEST_F(NodeTest, ACallerWhoGoesCancelsItsRunAndTheSlotComesBack) {
  const VersionPtr v = version(1, 1, 1);
  Answer warm, gone, next;
  ask(v, {0, 0}, warm);
  until([&] { return warm.done(); });
  host_.hold();
  CancelSignal cancel;
  ask(v, {1, 2}, gone, &cancel);
  io_.restart();
  io_.run_for(5ms);
  host_.await_running();
  cancel.fire();
  until([&] { return gone.done(); });
  EXPECT_EQ(gone.text, "cancelled");
  ask(v, {3, 4}, next);
  host_.release();
  until([&] { return next.done(); });
  EXPECT_EQ(next.text, "7");
  EXPECT_EQ(host_.cancelled(), 1);
}

TEST_F(NodeTest, ABatchIsCancelledWhenItsLastMemberGoes) {
  const VersionPtr v = version();
  Answer warm, a, b, next;
  ask(v, {0, 0}, warm);
  until([&] { return warm.done(); });
  host_.hold();
  CancelSignal first, second;
  ask(v, {1, 2}, a, &first);
  ask(v, {1, 2}, b, &second);
  io_.restart();
  io_.run_for(5ms);
  host_.await_running();
  first.fire();
  until([&] { return a.done(); });
  EXPECT_FALSE(b.done());
  second.fire();
  until([&] { return b.done(); });
  ask(v, {3, 4}, next);
  host_.release();
  until([&] { return next.done(); });
  EXPECT_EQ(next.text, "7");
  EXPECT_EQ(host_.cancelled(), 1);
}

TEST_F(NodeTest, AMemberPastItsDeadlineLeavesTheOthers) {
  const VersionPtr v = version();
  Answer first, late, kept;
  occupy(v, first);
  ask(v, {1, 2}, late, nullptr, 30'000'000);
  ask(v, {3, 4}, kept);
  until([&] { return late.done(); });
  EXPECT_EQ(late.text, "deadline_exceeded");
  EXPECT_FALSE(kept.done());
  host_.release();
  until([&] { return kept.done() && first.done(); });
  EXPECT_EQ(kept.text, "7");
}

TEST_F(NodeTest, ABurstDelaysAnotherKeyByOneOfItsOwn) {
  const VersionPtr v = version(1, 1, 1);
  Answer first, other;
  occupy(v, first);
  std::vector<Answer> burst(20);
  for (auto& a : burst) ask(v, {1, 1}, a, nullptr, 20'000'000'000, 1);
  ask(v, {2, 2}, other, nullptr, 20'000'000'000, 2);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return other.done(); });
  EXPECT_LE(other.place, 4);  // after the warm-up, the one that ran, and one of the burst
  until([&] { return std::all_of(burst.begin(), burst.end(), [](const Answer& a) { return a.done(); }); });
}

TEST_F(NodeTest, AFullQueueShedsTheBurstAndNotTheNewcomer) {
  const VersionPtr v = version(1, 1, 1, 4);
  Answer first, other;
  occupy(v, first);
  std::vector<Answer> burst(6);
  for (auto& a : burst) ask(v, {1, 1}, a, nullptr, 20'000'000'000, 1);
  io_.restart();
  io_.run_for(5ms);
  EXPECT_EQ(std::count_if(burst.begin(), burst.end(), [](const Answer& a) { return a.text == "queue_full"; }), 2);
  ask(v, {2, 2}, other, nullptr, 20'000'000'000, 2);
  io_.restart();
  io_.run_for(5ms);
  EXPECT_FALSE(other.done());
  EXPECT_EQ(std::count_if(burst.begin(), burst.end(), [](const Answer& a) { return a.text == "queue_full"; }), 3);
  host_.release();
  until([&] {
    return other.done() && std::all_of(burst.begin(), burst.end(), [](const Answer& a) { return a.done(); });
  });
  EXPECT_EQ(other.text, "4");
}

}  // namespace
}  // namespace mayfly
