// Where the tensors of one request go in a slot's input region. A parser asks for the room of an input, writes there,
// and says how much it took. Value; borrows the region.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

#include "worker_ipc/arena.h"

namespace mayfly {

class InputArea {
 public:
  // The whole region for one request: tensors follow each other in the order in which they come.
  explicit InputArea(std::span<std::byte> region) : region_(region) {}
  // What input `index` of the signature may fill, from its first byte on. The span starts at a multiple of
  // kTensorAlign.
  std::span<std::byte> room(std::uint32_t index) const {
    static_cast<void>(index);
    return region_.subspan(std::min<std::uint64_t>(align_tensor(used_), region_.size()));
  }
  // Input `index` took the first `bytes` of its room: its offset in the region.
  std::uint64_t take(std::uint32_t index, std::uint64_t bytes) {
    static_cast<void>(index);
    if (bytes == 0) return 0;
    const std::uint64_t start = align_tensor(used_);
    used_ = start + bytes;
    return start;
  }
  std::uint64_t size() const { return region_.size(); }  // of the region, for messages

 private:
  std::span<std::byte> region_;
  std::uint64_t used_ = 0;
};

}  // namespace mayfly
