// Requests that share one slot and one run. Each has written its rows into the slot's input region (BatchPlan); the
// outputs are split by narrowing views, nothing is copied. Owner: the leases of its members; while it is submitted also
// itself. One reactor. It is open until submit(), and its slot goes back when the last of its members has let go of it.
//
// A member that is cancelled or late leaves it; its rows stay and are computed for nobody. If the run fails, or its
// outputs don't have one row for each input row, every member is told to ask again apart: who was at fault is not
// known.
#pragma once
#include <memory>
#include <vector>

#include "async/one_shot.h"
#include "node/call.h"
#include "worker_ipc/input_area.h"

namespace mayfly {

class Instance;

class Batch final : public Call, public std::enable_shared_from_this<Batch> {
 public:
  struct Member {
    SlotResult* result = nullptr;
    std::uint64_t deadline_ns = 0;
    std::uint64_t joined_ns = 0;
    std::uint32_t first = 0, rows = 0;
    OneShot<CallOutcome> done;
  };
  Batch(std::shared_ptr<Instance> instance, std::uint32_t slot);
  ~Batch() override;

  InputArea area() const;
  std::uint32_t rows() const { return rows_; }
  std::uint32_t slot() const { return slot_; }
  bool empty() const { return members_.empty(); }
  std::uint64_t earliest_deadline_ns() const { return earliest_deadline_ns_; }
  std::uint64_t opened_ns() const { return opened_ns_; }
  // Whether a request of so many rows, parsed into area(), can be added.
  bool fits(const SlotRequest& request) const;
  void add(Member& member, const SlotRequest& request);
  void leave(Member& member);  // cancelled: no answer is wanted
  void submit();
  bool submitted() const { return phase_ != Phase::kOpen; }

  SlotResult& result() override { return result_; }
  std::uint32_t requests() const override { return static_cast<std::uint32_t>(members_.size()); }
  void finish(CallOutcome outcome) override;
  bool expire(std::uint64_t now) override;

 private:
  enum class Phase : std::uint8_t { kOpen, kRunning, kDone, kAbandoned };
  bool splits() const;
  void narrow(const Member& member) const;

  std::shared_ptr<Instance> instance_;
  std::uint32_t slot_;
  Phase phase_ = Phase::kOpen;
  std::uint32_t rows_ = 0;
  std::uint64_t mask_ = 0;
  std::uint64_t opened_ns_ = 0, submitted_ns_ = 0, earliest_deadline_ns_ = UINT64_MAX;
  std::vector<Member*> members_;
  SlotRequest request_;
  SlotResult result_;
  std::shared_ptr<Batch> self_;  // while it runs
};

}  // namespace mayfly
