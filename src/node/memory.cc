// The node's budget of memory: what counts, and who goes when a start needs room (policy/residency.h).
#include <fcntl.h>

#include <algorithm>

#include "node/node.h"
#include "policy/residency.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kUnmeasuredBytes = 64ULL << 20;    // expected of an instance of which nothing is known
constexpr std::uint64_t kUnmeasuredStartNs = 100'000'000;  // … of its start
constexpr std::uint64_t kCountEveryNs = 1'000'000'000;
constexpr std::uint64_t kHorizonNs = 300'000'000'000;  // an instance that is not wanted within it is worth little
constexpr std::uint64_t kDiskBytesPerMs = 500'000;     // of an artefact that has to be read again

// An instance whose end nobody notices but by the next start: idle, and not one that its owner pays to have warm.
bool evictable(const Pool& pool, const Instance& i, std::uint32_t& warm_left) {
  if (i.phase() == InstancePhase::kParked) return true;
  if (i.phase() != InstancePhase::kReady || i.busy() > 0 || pool.waiting() > 0) return false;
  if (warm_left > 0) return --warm_left, false;
  return true;
}

std::uint64_t bytes_of(const VersionRecord& record, const Instance& i) {
  return i.measured_bytes() != 0 ? i.measured_bytes() : record.expected_bytes();
}

}  // namespace

std::uint64_t VersionRecord::expected_bytes() const {
  const std::uint64_t limit = version->settings.memory_bytes;
  return std::min(limit, measures.private_bytes != 0 ? measures.private_bytes : kUnmeasuredBytes);
}

// Everything that counts, as policy/residency.h wants it; instances[i] or cached[i - instances.size()] is who
// residents[i] is. Versions of the same model share an artefact: a group of their instances.
struct Node::Candidates {
  std::vector<policy::Resident> residents;
  std::vector<std::uint64_t> shared_bytes;
  std::vector<std::pair<Pool*, Instance*>> instances;
  std::vector<VersionRecord*> cached;
  NodeMemory memory;
};

Node::Candidates Node::candidates() const {
  Candidates c;
  c.memory.budget = memory_budget_;
  const std::uint64_t now = now_ns();
  std::unordered_map<std::string_view, std::size_t> groups;
  const auto use = [now](const VersionRecord& r) {
    return policy::use_within(kHorizonNs, r.gap_ns, now - std::min(now, r.last_arrival_ns));
  };
  for (const auto& [version, pool] : pools_) {
    if (pool->instances().empty()) continue;
    const VersionRecord& record = pool->record();
    const auto [at, first] = groups.emplace(version->artefact_path, c.shared_bytes.size());
    if (first) {
      c.shared_bytes.push_back(record.measures.artefact_bytes);
      c.memory.artefacts += record.measures.artefact_bytes;
    }
    const std::uint64_t restart =
        record.measures.start.measured() ? record.measures.start.mean_ns() : kUnmeasuredStartNs;
    std::uint32_t warm_left = pool->hold().warm;
    for (const auto& i : pool->instances()) {
      policy::Resident r;
      r.own_bytes = bytes_of(record, *i);
      r.group = at->second;
      r.in_use = !evictable(*pool, *i, warm_left);
      r.restart_ns = restart;
      r.use = use(record);
      c.memory.instances += r.own_bytes;
      c.residents.push_back(r);
      c.instances.emplace_back(pool.get(), i.get());
    }
  }
  std::unordered_map<std::string_view, bool> seen;
  for (const auto& [version, record] : records_) {
    if (!record->artefact_cached || groups.contains(version->artefact_path)) continue;
    if (!seen.emplace(version->artefact_path, true).second) continue;
    policy::Resident r;
    r.own_bytes = record->measures.artefact_bytes;
    r.restart_ns = r.own_bytes * 1'000'000 / kDiskBytesPerMs;
    r.use = use(*record);
    c.memory.cached += r.own_bytes;
    c.residents.push_back(r);
    c.cached.push_back(record.get());
  }
  return c;
}

NodeMemory Node::memory() const { return candidates().memory; }

std::unordered_map<std::string, Node::ArtefactUse> Node::artefact_uses(std::uint64_t horizon_ns) const {
  std::unordered_map<std::string, ArtefactUse> out;
  const std::uint64_t now = now_ns();
  for (const auto& [version, record] : records_) {
    ArtefactUse& a = out[version->artefact_path];
    a.use =
        std::max(a.use, policy::use_within(horizon_ns, record->gap_ns, now - std::min(now, record->last_arrival_ns)));
  }
  for (const auto& [version, pool] : pools_) {
    const bool busy = !pool->instances().empty() || pool->waiting() > 0 || pool->supplying_since_ns() != 0;
    ArtefactUse& a = out[version->artefact_path];
    a.in_use = a.in_use || busy;
  }
  return out;
}

// Best effort: pages that are dirty or mapped stay, and the kernel may have dropped them long ago.
static void drop_from_cache(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.valid()) posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
}

bool Node::make_room(const VersionRecord& record, bool evict) {
  // Counting looks at everything that is held: far from the budget once a second is enough.
  const std::uint64_t now = now_ns();
  const std::uint64_t most = record.expected_bytes() + record.measures.artefact_bytes;
  if (counted_ns_ != 0 && now < counted_ns_ + kCountEveryNs &&
      counted_bytes_ + given_bytes_ + most <= memory_budget_ / 10 * 9) {
    given_bytes_ += most;
    return true;
  }
  Candidates c = candidates();
  counted_ns_ = now;
  counted_bytes_ = c.memory.used();
  given_bytes_ = most;
  const bool mapped = std::any_of(pools_.begin(), pools_.end(), [&](const auto& p) {
    return p.first->artefact_path == record.version->artefact_path && !p.second->instances().empty();
  });
  for (std::size_t i = 0; i < c.cached.size(); ++i) {  // its own artefact becomes a mapped one
    if (c.cached[i]->version->artefact_path == record.version->artefact_path)
      c.residents[c.instances.size() + i].in_use = true;
  }
  const bool counted = mapped || record.artefact_cached;
  const std::uint64_t need = record.expected_bytes() + (counted ? 0 : record.measures.artefact_bytes);
  const std::uint64_t wanted = c.memory.used() + need;
  if (wanted <= memory_budget_) return true;
  if (!evict) {  // what is only cached may go for what is held ahead; nobody's instance may
    for (std::size_t i = 0; i < c.instances.size(); ++i) c.residents[i].in_use = true;
  }
  const auto chosen = policy::choose_evictions(c.residents, c.shared_bytes, wanted - memory_budget_);
  for (const std::size_t i : chosen) {
    if (i >= c.instances.size()) {
      const VersionRecord& r = *c.cached[i - c.instances.size()];
      forget_artefact(r.version->artefact_path);
      drop_from_cache(r.version->artefact_path);
      continue;
    }
    auto& [pool, instance] = c.instances[i];
    VersionRecord& r = record_of(instance->version_ptr());
    ++r.counters.evictions;
    ++evictions_;
    r.last_eviction = fmt::format(
        "evicted: {} needed {} MiB, the node's memory budget of {} MiB was in use, and of what was idle this was worth "
        "least (restart {} ms, {} MiB)",
        record.version->display(), need >> 20, memory_budget_ >> 20, c.residents[i].restart_ns / 1'000'000,
        c.residents[i].own_bytes >> 20);
    instance->end(r.last_eviction, EndKind::kPlanned);
  }
  return !chosen.empty();
}

}  // namespace mayfly
