// The requests that wait for a slot of one version, shared fairly between flows (a flow is an API key; callers without
// a key are one flow). Pure: no clock, no I/O; times are monotonic nanoseconds. One reactor.
//
// Between flows: start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM 1996, eqs. 4 and 5),
// the cost of an entry being its predicted run time. Each flow that waits carries the start tag of its next entry; the
// smallest tag is served, which makes it the virtual time v, and the flow's tag grows by cost / weight. A flow that
// begins to wait starts at max(v, its last finish tag). So two flows that both wait get service in proportion to their
// weights, within one entry of each, and a newcomer is served after at most one entry of each other flow, whatever
// their bursts. Within a flow: the higher priority, then the earlier deadline, then the earlier arrival; a flow starves
// only itself. Tags are unsigned and wrap around; all live ones lie within kMaxCostNs of v, so that differences are
// signed.
//
// Entries are intrusive and belong to the caller. Operations are O(log n) and allocate only while the queue is larger
// than ever before or a flow is new.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <unordered_map>

#include "base/result.h"
#include "policy/indexed_heap.h"

namespace mayfly::policy {

inline constexpr std::uint32_t kMaxWeight = 100;
inline constexpr std::uint64_t kMinCostNs = 1'000;           // what an entry of unknown cost is charged
inline constexpr std::uint64_t kMaxCostNs = 60'000'000'000;  // no entry is charged more, and no flow owes more
inline constexpr std::uint64_t kNoDeadline = std::numeric_limits<std::uint64_t>::max();

// Priorities are numbered as Triton does: 1 is the highest, 0 asks for the default. There are nine levels, the default
// is the middle one, and larger numbers count as the lowest.
inline constexpr std::uint32_t kPriorityLevels = 9, kDefaultPriority = 5;
constexpr std::uint32_t priority_level(std::uint64_t priority) {
  if (priority == 0) return kDefaultPriority;
  return priority < kPriorityLevels ? static_cast<std::uint32_t>(priority) : kPriorityLevels;
}

// Derive what waits from this, or hold it as a member. It must not die while it is queued.
class FairEntry {
 public:
  FairEntry() = default;
  FairEntry(const FairEntry&) = delete;
  FairEntry& operator=(const FairEntry&) = delete;
  ~FairEntry() { MAYFLY_CHECK(!queued()); }
  bool queued() const { return queued_; }

  // Set before push(), and left alone while queued.
  std::uint64_t flow = 0;
  std::uint32_t weight = 1;    // of the flow, 1 … kMaxWeight; the last one pushed counts
  std::uint64_t priority = 0;  // see priority_level
  std::uint64_t deadline_ns = kNoDeadline;
  std::uint64_t cost_ns = 0;  // predicted run time; 0: unknown
  std::uint64_t need_ns = 0;  // that has to be left before the deadline, where that is more than the cost

 private:
  friend class FairQueue;
  std::uint64_t latest_start() const {
    const std::uint64_t need = cost_ns > need_ns ? cost_ns : need_ns;
    return need < deadline_ns ? deadline_ns - need : 0;
  }
  bool queued_ = false;
  std::uint32_t level_ = 0;
  std::uint32_t in_flow_ = kNotInHeap, in_expiry_ = kNotInHeap;
  std::uint64_t seq_ = 0, charged_ns_ = 0, virtual_cost_ = 0, latest_start_ns_ = 0;
  FairEntry *older_ = nullptr, *newer_ = nullptr;  // of the same flow and level
};

class FairQueue {
 public:
  // first_tag: where the virtual time begins, for tests of its wrapping around.
  explicit FairQueue(std::size_t max_entries, std::uint64_t first_tag = 0)
      : max_entries_(max_entries), virtual_now_(first_tag), last_finish_(first_tag) {}
  FairQueue(const FairQueue&) = delete;
  FairQueue& operator=(const FairQueue&) = delete;

  // Queues `e`. If that is one too many, an entry is put out and returned: the newest of the lowest priority of the
  // flow that has the most queued cost relative to its weight. It may be `e` itself.
  FairEntry* push(FairEntry& e);
  struct Next {
    FairEntry* entry = nullptr;
    bool expired = false;  // it can't meet its deadline any more
  };
  // Takes out the next entry: all that expired come first, then the one to serve, whose flow is charged.
  Next pop(std::uint64_t now_ns);
  FairEntry* pop_expired(std::uint64_t now_ns);  // for when no slot is free; null if none
  void remove(FairEntry& e);                     // cancelled; `e` is queued here
  // The run of an entry of `flow` took `actual_ns`, and not the `charged_ns` that pop() charged: the flow owes the
  // rest.
  void settle(std::uint64_t flow, std::uint64_t charged_ns, std::uint64_t actual_ns);
  // Nothing waits and nothing runs: the busy period ends, and no flow owes anything for it.
  void rest();

  // The first time at which pop_expired() returns something, less one nanosecond; kNoDeadline if never.
  std::uint64_t next_deadline() const { return by_expiry_.empty() ? kNoDeadline : by_expiry_.top().latest_start_ns_; }
  bool empty() const { return by_expiry_.empty(); }
  std::size_t size() const { return by_expiry_.size(); }
  std::size_t max_entries() const { return max_entries_; }
  void set_max_entries(std::size_t n) { max_entries_ = n; }  // those beyond it that wait already stay
  std::size_t size_of(std::uint64_t flow) const;
  std::uint64_t queued_cost_ns() const { return total_cost_ns_; }
  // What would be served before `e`, which is not queued yet, if nothing else arrived, in nanoseconds of run time
  // summed over all slots: the flow's own entries of the same or a higher priority, and as much of the others as their
  // weights give them meanwhile. Looks at those flows only that have something to serve before it, at most kMaxVisited;
  // where there are more, the rest is taken to be like those.
  std::uint64_t cost_ahead_ns(const FairEntry& e) const;
  // push(e) would put out `e` itself.
  bool refuses(const FairEntry& e) const;
  std::size_t known_flows() const { return flows_.size(); }  // with those that wait for nothing, at most kMaxIdleFlows

  static constexpr std::size_t kMaxIdleFlows = 1024;  // remembered for what they owe, the latest ones
  static constexpr std::size_t kMaxVisited = 256;

 private:
  struct Flow {
    struct Order {
      bool operator()(const FairEntry& a, const FairEntry& b) const {
        if (a.level_ != b.level_) return a.level_ < b.level_;
        return a.deadline_ns != b.deadline_ns ? a.deadline_ns < b.deadline_ns : a.seq_ < b.seq_;
      }
    };
    std::uint64_t id = 0;
    std::uint32_t weight = 1;
    std::uint64_t tag = 0;    // start tag of the next entry; idle: finish tag of the last one
    std::uint64_t load = 0;   // queued cost / weight
    std::uint64_t since = 0;  // sequence number of the push that made it wait
    std::uint32_t in_tags = kNotInHeap, in_loads = kNotInHeap;
    IndexedHeap<FairEntry, &FairEntry::in_flow_, Order> entries;
    std::array<FairEntry*, kPriorityLevels + 1> newest{};  // by level
    std::array<std::uint64_t, kPriorityLevels + 1> cost_ns{};
    Flow *idle_before = nullptr, *idle_after = nullptr;
    bool in_idle = false;
  };
  struct EarlierTag {
    bool operator()(const Flow& a, const Flow& b) const {
      const auto apart = static_cast<std::int64_t>(a.tag - b.tag);
      return apart != 0 ? apart < 0 : a.since < b.since;
    }
  };
  struct LargerLoad {
    bool operator()(const Flow& a, const Flow& b) const {
      return a.load != b.load ? a.load > b.load : a.since > b.since;
    }
  };
  struct EarlierExpiry {
    bool operator()(const FairEntry& a, const FairEntry& b) const {
      return a.latest_start_ns_ != b.latest_start_ns_ ? a.latest_start_ns_ < b.latest_start_ns_ : a.seq_ < b.seq_;
    }
  };
  Flow& flow_of(std::uint64_t id);
  std::uint64_t tag_if_waiting(const Flow& f) const;
  double others_ahead_ns(const Flow* own, std::uint64_t tag) const;
  void begin_waiting(Flow& f, std::uint64_t seq);
  void take_out(FairEntry& e);
  FairEntry* shed();
  void idle_push(Flow& f);
  void idle_remove(Flow& f);

  std::size_t max_entries_;
  std::uint64_t seq_ = 0, total_cost_ns_ = 0;
  std::uint64_t virtual_now_, last_finish_;
  std::unordered_map<std::uint64_t, Flow> flows_;  // nodes are stable
  IndexedHeap<Flow, &Flow::in_tags, EarlierTag> by_tag_;
  IndexedHeap<Flow, &Flow::in_loads, LargerLoad> by_load_;
  IndexedHeap<FairEntry, &FairEntry::in_expiry_, EarlierExpiry> by_expiry_;
  Flow *idle_oldest_ = nullptr, *idle_newest_ = nullptr;
  std::size_t idle_count_ = 0;
};

}  // namespace mayfly::policy
