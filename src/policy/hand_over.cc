#include "policy/hand_over.h"

#include <algorithm>

namespace mayfly::policy {

void HandOver::submitted(std::uint64_t now_ns, std::uint32_t requests) {
  ++under_way_;
  const std::uint64_t gap = std::min(now_ns - last_ns_, kLongGapNs);
  last_ns_ = now_ns;
  gap_ns_ = (gap_ns_ * 7 + gap) / 8;
  joined_ += (requests - joined_) / 8;
}

}  // namespace mayfly::policy
