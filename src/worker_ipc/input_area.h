// Where the tensors of one request go in a slot's input region. A parser asks for the room of an input, writes there,
// and says how much it took. Value; borrows the region and the plan.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

#include "worker_ipc/arena.h"
#include "worker_ipc/batch_plan.h"

namespace mayfly {

class InputArea {
 public:
  // The whole region for one request: tensors follow each other in the order in which they come.
  explicit InputArea(std::span<std::byte> region) : region_(region) {}
  // A part of a batch, from row `first` on.
  InputArea(std::span<std::byte> region, const BatchPlan& plan, std::uint32_t first)
      : region_(region), plan_(&plan), first_(first) {}
  // What input `index` of the signature may fill, from its first byte on.
  std::span<std::byte> room(std::uint32_t index) const {
    if (plan_ != nullptr) return region_.subspan(start(index), (plan_->max_rows - first_) * plan_->row_bytes[index]);
    return region_.subspan(std::min<std::uint64_t>(align_tensor(used_), region_.size()));
  }
  // Input `index` took the first `bytes` of its room: its offset in the region.
  std::uint64_t take(std::uint32_t index, std::uint64_t bytes) {
    if (bytes == 0) return 0;
    if (plan_ != nullptr) return start(index);
    const std::uint64_t at = align_tensor(used_);
    used_ = at + bytes;
    return at;
  }
  std::uint64_t size() const { return region_.size(); }  // of the region, for messages

 private:
  std::uint64_t start(std::uint32_t index) const { return plan_->offset[index] + first_ * plan_->row_bytes[index]; }
  std::span<std::byte> region_;
  const BatchPlan* plan_ = nullptr;
  std::uint32_t first_ = 0;
  std::uint64_t used_ = 0;
};

}  // namespace mayfly
