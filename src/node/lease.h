// A place in an instance, held for one request: a slot of its own, or a share in a batch. Which of them is settled when
// the request's input is written: area() joins the instance's open batch where the version allows it, input() never
// does. Value that moves; gives everything back when it goes. One reactor.
#pragma once
#include <memory>

#include "async/cancel.h"
#include "node/instance.h"

namespace mayfly {

class Lease {
 public:
  Lease() = default;
  // The instance has a place, which the lease takes. `may_join`: with others in a batch.
  Lease(std::shared_ptr<Instance> instance, bool may_join);
  Lease(Lease&& o) noexcept;
  Lease& operator=(Lease&& o) noexcept;
  ~Lease() { release(); }

  InputArea area();              // where the request's tensors go
  std::span<std::byte> input();  // the whole region, for what is no tensor
  std::span<const std::byte> output() const { return instance_->arena().output(slot_); }
  StartKind start() const { return start_; }
  const Instance& instance() const { return *instance_; }
  // The request was parsed into area(), and goes with the batch that it joined; always true for a slot of its own.
  bool fits(const SlotRequest& request) const { return !batch_ || batch_->fits(request); }
  bool joins() const { return batch_ != nullptr; }
  void go_alone();  // leaves the batch before it ran; area() is now a slot of its own
  // Submits `request`, whose tensors lie in area() or input(), and waits for the answer, at most until the deadline or
  // until `cancel` fires (it may be null): then the error's code is kCancelled. The request is the caller's own memory:
  // nothing in the arena can be trusted to stay as it was written.
  Task<CallOutcome> run(const SlotRequest& request, SlotResult& result, std::uint64_t deadline_ns,
                        CancelSignal* cancel);
  // The input region was written, and the request will not run: its pages go back.
  void discard_input() { bytes_used_ = ~0ULL; }
  // What the queue charged its flow for it, as predicted; 0: it did not wait.
  std::uint64_t charged_ns() const { return charged_ns_; }
  void charge(std::uint64_t ns) { charged_ns_ = ns; }

 private:
  static constexpr std::uint32_t kNoSlot = ~0U;
  struct Single;
  Task<CallOutcome> run_alone(const SlotRequest& request, SlotResult& result, std::uint64_t deadline_ns,
                              CancelSignal* cancel);
  Task<CallOutcome> run_joined(const SlotRequest& request, SlotResult& result, std::uint64_t deadline_ns,
                               CancelSignal* cancel);
  void take_slot();
  void release();

  std::shared_ptr<Instance> instance_;
  std::shared_ptr<Batch> batch_;
  std::uint32_t slot_ = kNoSlot;
  bool may_join_ = false;
  StartKind start_ = StartKind::kWarm;
  bool abandoned_ = false;  // the slot still runs, for nobody
  std::uint64_t charged_ns_ = 0;
  std::uint64_t bytes_used_ = 0;
};

}  // namespace mayfly
