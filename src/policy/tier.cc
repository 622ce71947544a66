#include "policy/tier.h"

namespace mayfly::policy {
namespace {
constexpr std::uint64_t kReserveBytes = 16ULL << 20;
}

bool tier_pays(const TierPlan& plan, std::uint64_t runs) {
  if (!plan.allowed || plan.gain_ns == 0 || runs < kMinRunsForTier) return false;
  return runs > plan.build_ns / plan.gain_ns;
}

bool tier_fits(const TierPlan& plan, std::uint64_t used_bytes, std::uint64_t limit_bytes) {
  const std::uint64_t reserve = kReserveBytes + plan.packed_bytes / 4;
  if (used_bytes > limit_bytes || plan.packed_bytes > limit_bytes) return false;
  return limit_bytes - used_bytes >= plan.packed_bytes && limit_bytes - used_bytes - plan.packed_bytes >= reserve;
}

}  // namespace mayfly::policy
