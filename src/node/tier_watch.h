// The server's side of a change of tier: counts the runs of an instance in the mapped form, asks for the packed one
// when policy/tier.h says so, and sees what became of it. What the instance says about it is only shown. Owned by the
// instance's reactor, as the Instance is.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "policy/tier.h"
#include "worker_ipc/arena.h"

namespace mayfly {

class TierWatch {
 public:
  // After a run. True: the instance has been asked to change and must be woken. memory_file: of the instance's cgroup.
  bool after_run(const policy::TierPlan& plan, const ArenaView& arena, const std::string& memory_file,
                 std::uint64_t limit_bytes);
  // The tier, if it is another one than at the last call.
  bool changed(const ArenaView& arena);
  // mapped, building, packed, or why it stays mapped: no_memory, failed.
  std::string_view name() const;
  Tier tier() const { return tier_; }

 private:
  static constexpr std::uint32_t kMaxLooks = 8;  // at the memory: after 2, 4, 8 … times the runs it takes
  std::uint64_t runs_ = 0, next_look_ = 1;
  std::uint32_t looks_ = 0;
  bool asked_ = false, no_memory_ = false;
  Tier tier_ = Tier::kMapped;
};

// Memory that the kernel can't take back by dropping clean pages, from the memory.stat beside `memory_file`; nothing
// where it can't be read.
bool unreclaimable_bytes(const std::string& memory_file, std::uint64_t& bytes);

}  // namespace mayfly
