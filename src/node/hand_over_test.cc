// An instance that is woken before its request is there, and a server that waits awake for the completion: whatever
// becomes of the gamble, each request has its answer.
#include "node/played_node.h"

namespace mayfly {
namespace {

class HandOverTest : public NodeTest {};

TEST_F(HandOverTest, RequestsThatWereExpectedAreAnswered) {
  const auto v = version();
  for (int i = 0; i < 200; ++i) {
    node_.expect(v);
    EXPECT_EQ(answer(v, {1, static_cast<float>(i)}), std::to_string(1 + i));
  }
  EXPECT_EQ(events_.times["starting"], 1);
}

TEST_F(HandOverTest, AnExpectedRequestThatNeverComesCostsTheNextOneNothing) {
  const auto v = version();
  EXPECT_EQ(answer(v, {1, 2}), "3");
  for (int i = 0; i < 20; ++i) {
    node_.expect(v);
    until([] { return true; });
    std::this_thread::sleep_for(1ms);  // the instance has looked and sleeps again
    if (i % 4 == 3) EXPECT_EQ(answer(v, {1, static_cast<float>(i)}), std::to_string(1 + i));
  }
}

TEST_F(HandOverTest, ARunThatTakesLongerIsWaitedForAsleep) {
  const auto v = version();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(answer(v, {1, 2}), "3");  // short ones, so that the next is thought so
  host_.hold();
  Answer slow;
  node_.expect(v);
  ask(v, {4, 4}, slow);
  io_.restart();
  io_.run_for(5ms);  // returns: the reactor is not held up by a run that does not end
  host_.await_running();
  EXPECT_FALSE(slow.done());
  host_.release();
  until([&] { return slow.done(); });
  EXPECT_EQ(slow.text, "8");
}

TEST_F(HandOverTest, AnInstanceThatEndsInsteadOfAnsweringIsReplaced) {
  const auto v = version();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(answer(v, {1, 2}), "3");
  node_.expect(v);
  host_.die();
  EXPECT_EQ(answer(v, {1, 2}), "3");  // asked again, of the next one
  EXPECT_EQ(answer(v, {2, 2}), "4");
  EXPECT_EQ(node_.hand_over().under_way(), 0U);
  EXPECT_EQ(events_.times["starting"], 2);
}

// An owner that goes before what was posted for its instance has run, as a pool does whose last instance has ended.
struct Owner final : InstanceOwner {
  explicit Owner(policy::HandOver& h) : shared(h) {}
  void on_loaded(Instance&) override {}
  void on_ready(Instance&) override { ready = true; }
  void on_slot_free(Instance&) override {}
  void on_run(std::uint64_t, std::uint64_t, std::uint32_t) override {}
  void on_tier(Instance&) override {}
  void on_resumed(std::uint64_t) override {}
  void on_batching_failed(Instance&) override {}
  std::uint64_t arrival_gap_ns() const override { return 0; }
  std::uint64_t run_time_ns() const override { return 1000; }
  std::uint64_t work_ns() const override { return 1000; }
  policy::HandOver& hand_over() override { return shared; }
  void on_dead(Instance&, const std::string&, EndKind, bool) override { dead = true; }
  policy::HandOver& shared;
  bool ready = false, dead = false;
};

TEST_F(HandOverTest, AnInstanceMayEndWithItsOwnerBeforeItsWakeUpIsSent) {
  policy::HandOver shared(true);
  auto owner = std::make_unique<Owner>(shared);
  auto instance = Instance::start(io_.get_executor(), launcher_, version(), *owner);
  ASSERT_TRUE(instance.ok());
  until([&] { return owner->ready; });
  std::this_thread::sleep_for(5ms);  // it sleeps
  (*instance)->hold_place();
  SlotRequest probe;
  probe.kind = RequestKind::kProbe;
  probe.input_count = 0;
  (*instance)->submit((*instance)->take_slot(), probe, nullptr);
  EXPECT_EQ(shared.under_way(), 1U);
  LaunchEvent ended;
  (*instance)->on_ended(ended, false);
  EXPECT_TRUE(owner->dead);
  EXPECT_EQ(shared.under_way(), 0U);
  owner.reset();
  io_.restart();
  io_.poll();
}

TEST_F(HandOverTest, WhatRunsIsCounted) {
  const auto v = version(1, 2, 1);
  Answer a, b;
  occupy(v, a);
  EXPECT_EQ(node_.hand_over().under_way(), 1U);
  ask(v, {2, 2}, b);
  until([&] { return node_.hand_over().under_way() == 2; });
  host_.release();
  until([&] { return a.done() && b.done(); });
  EXPECT_EQ(node_.hand_over().under_way(), 0U);
}

}  // namespace
}  // namespace mayfly
