#include "node/tier_watch.h"

#include <algorithm>
#include <fstream>

namespace mayfly {

// cgroup v2 names what is private "anon", v1 "rss"; the arena is "shmem" in both, and counted to whoever touched it.
bool unreclaimable_bytes(const std::string& memory_file, std::uint64_t& bytes) {
  const auto slash = memory_file.rfind('/');
  if (slash == std::string::npos) return false;
  std::ifstream in(memory_file.substr(0, slash) + "/memory.stat");
  std::string key;
  std::uint64_t value = 0;
  bool found = false;
  bytes = 0;
  while (in >> key >> value) {
    if (key != "anon" && key != "rss" && key != "shmem") continue;
    bytes += value;
    found = true;
  }
  return found;
}

bool TierWatch::after_run(const policy::TierPlan& plan, const ArenaView& arena, const std::string& memory_file,
                          std::uint64_t limit_bytes) {
  if (asked_ || !plan.allowed || looks_ >= kMaxLooks) return false;
  if (++runs_ < next_look_ || !policy::tier_pays(plan, runs_)) return false;
  std::uint64_t used = 0;
  no_memory_ = !unreclaimable_bytes(memory_file, used) || !policy::tier_fits(plan, used, limit_bytes);
  if (no_memory_) {
    ++looks_;
    next_look_ = runs_ * 2;
    return false;
  }
  asked_ = true;
  arena.header().tier.wanted.store(1, std::memory_order_release);
  return true;
}

bool TierWatch::changed(const ArenaView& arena) {
  const std::uint32_t now = arena.header().tier.tier.load(std::memory_order_acquire);
  if (now == static_cast<std::uint32_t>(tier_) || now > static_cast<std::uint32_t>(Tier::kFailed)) return false;
  tier_ = static_cast<Tier>(now);
  return true;
}

std::string_view TierWatch::name() const {
  switch (tier_) {
    case Tier::kMapped:
      return no_memory_ ? "no_memory" : "mapped";
    case Tier::kBuilding:
      return "building";
    case Tier::kPacked:
      return "packed";
    case Tier::kFailed:
      break;
  }
  return "failed";
}

}  // namespace mayfly
