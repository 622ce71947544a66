#include "node/lease.h"

#include <utility>

namespace mayfly {
namespace {

Error cancelled() { return Error{Code::kCancelled, "cancelled", "the caller went away before the answer was there"}; }

}  // namespace

// A request in a slot of its own.
struct Lease::Single final : Call {
  Single(Instance& i, std::uint32_t s, SlotResult& r, std::uint64_t d) : instance(i), slot(s), out(r), deadline_ns(d) {}
  SlotResult& result() override { return out; }
  void finish(CallOutcome outcome) override {
    outcome.rows = rows;
    done.set(std::move(outcome));
  }
  bool expire(std::uint64_t now) override {
    if (now < deadline_ns) return false;
    gone = true;
    done.set(CallOutcome{late(instance.version())});
    return true;
  }
  static void cancel(void* self) {
    auto* call = static_cast<Single*>(self);
    if (call->done.is_set()) return;
    call->gone = true;
    call->instance.abandon(call->slot);
    call->done.set(CallOutcome{cancelled()});
  }
  Instance& instance;
  std::uint32_t slot;
  SlotResult& out;
  std::uint64_t deadline_ns;
  OneShot<CallOutcome> done;
  bool gone = false;
  std::uint32_t rows = 1;
};

Lease::Lease(std::shared_ptr<Instance> instance, bool may_join)
    : instance_(std::move(instance)), may_join_(may_join), start_(instance_->start_kind()) {
  instance_->hold_place();
}

Lease::Lease(Lease&& o) noexcept { *this = std::move(o); }

Lease& Lease::operator=(Lease&& o) noexcept {
  if (this == &o) return *this;
  release();
  instance_ = std::move(o.instance_);
  batch_ = std::move(o.batch_);
  slot_ = std::exchange(o.slot_, kNoSlot);
  may_join_ = o.may_join_;
  start_ = o.start_;
  abandoned_ = o.abandoned_;
  bytes_used_ = o.bytes_used_;
  charged_ns_ = o.charged_ns_;
  return *this;
}

void Lease::release() {
  if (!instance_) return;
  if (const auto batch = std::exchange(batch_, nullptr))
    instance_->left(*batch);
  else if (slot_ != kNoSlot && !abandoned_)
    instance_->return_slot(slot_, bytes_used_);
  std::exchange(instance_, nullptr)->give_place();
}

void Lease::take_slot() {
  if (slot_ == kNoSlot) slot_ = instance_->take_slot();
}

InputArea Lease::area() {
  if (!may_join_) return InputArea(input());
  if (!batch_ || batch_->submitted()) {
    batch_ = instance_->open_batch();
    slot_ = batch_->slot();
  }
  return batch_->area();
}

std::span<std::byte> Lease::input() {
  MAYFLY_CHECK(!batch_);
  take_slot();
  return instance_->arena().input(slot_);
}

void Lease::go_alone() {
  may_join_ = false;
  slot_ = kNoSlot;
  if (const auto batch = std::exchange(batch_, nullptr)) instance_->left(*batch);
}

Task<CallOutcome> Lease::run(const SlotRequest& request, SlotResult& result, std::uint64_t deadline_ns,
                             CancelSignal* cancel) {
  if (instance_->phase() == InstancePhase::kEnding || instance_->phase() == InstancePhase::kDead) {
    co_return CallOutcome{make_error(Code::kUnavailable, "instance_lost", "the instance ended before it was asked"),
                          true};
  }
  if (batch_) co_return co_await run_joined(request, result, deadline_ns, cancel);
  co_return co_await run_alone(request, result, deadline_ns, cancel);
}

Task<CallOutcome> Lease::run_alone(const SlotRequest& request, SlotResult& result, std::uint64_t deadline_ns,
                                   CancelSignal* cancel) {
  take_slot();
  bytes_used_ = used_bytes(request);
  if (cancel != nullptr && cancel->fired()) co_return CallOutcome{cancelled()};
  Single call(*instance_, slot_, result, deadline_ns);
  if (instance_->version().batch && request.input_count > 0 && request.inputs[0].rank > 0)
    call.rows = static_cast<std::uint32_t>(request.inputs[0].dims[0]);
  instance_->submit(slot_, request, &call);
  const CancelScope scope(cancel, &Single::cancel, &call);
  CallOutcome outcome = co_await call.done.wait();
  abandoned_ = call.gone;
  co_return outcome;
}

Task<CallOutcome> Lease::run_joined(const SlotRequest& request, SlotResult& result, std::uint64_t deadline_ns,
                                    CancelSignal* cancel) {
  if (cancel != nullptr && cancel->fired()) co_return CallOutcome{cancelled()};
  struct Joined {
    Batch::Member member;
    Batch* batch;
    static void cancel(void* self) {
      auto* j = static_cast<Joined*>(self);
      if (j->member.done.is_set()) return;
      j->batch->leave(j->member);
      j->member.done.set(CallOutcome{cancelled()});
    }
  };
  Joined joined;
  joined.batch = batch_.get();
  joined.member.result = &result;
  joined.member.deadline_ns = deadline_ns;
  joined.member.joined_ns = now_ns();
  batch_->add(joined.member, request);
  instance_->joined();
  const CancelScope scope(cancel, &Joined::cancel, &joined);
  co_return co_await joined.member.done.wait();
}

}  // namespace mayfly
