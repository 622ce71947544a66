// The part of the server that owns instances on this machine: one pool for each version that has or wants any, a record
// of what was measured of each version that ever had one, and the budget of memory that all of them share (memory.cc).
// One reactor. A timer runs only while there is something to watch: an idle node costs nothing.
#pragma once
#include <memory>
#include <unordered_map>

#include "base/processors.h"
#include "node/pool.h"

namespace mayfly {

class NodeObserver {  // life-cycle events, for the endpoint's log
 public:
  virtual ~NodeObserver() = default;
  virtual void on_instance_event(const Version& v, std::uint64_t instance, std::string_view event,
                                 std::string_view detail) = 0;
};

// What instances and artefacts hold of the node's memory, bytes. An instance that was not measured yet counts with what
// is expected of it.
struct NodeMemory {
  std::uint64_t budget = 0;
  std::uint64_t instances = 0;  // pages of their own
  std::uint64_t artefacts = 0;  // mapped by instances, each once
  std::uint64_t cached = 0;     // artefacts that nobody maps, in the page cache as far as known
  std::uint64_t used() const { return instances + artefacts + cached; }
};

class Node final : public PoolHost {
 public:
  Node(Executor ex, LauncherClient& launcher, NodeObserver& observer, std::uint64_t memory_budget)
      : executor_(ex),
        launcher_(launcher),
        observer_(observer),
        memory_budget_(memory_budget),
        max_starting_(policy::useful_starts(usable_processors())),
        hand_over_(several_processors()),
        timer_(ex) {}
  void set_supply(ArtefactSupply& supply) { supply_ = &supply; }
  Task<Result<Lease>> acquire(VersionPtr version, Ask ask);
  Status admit(const VersionPtr& version, const Ask& ask, std::uint64_t now);  // see Pool
  void settle(const Version& version, std::uint64_t flow, std::uint64_t charged_ns, std::uint64_t actual_ns);
  // The head of a request has named it, or somebody says that requests will come.
  void wake(const VersionPtr& version, std::uint32_t instances = 1);
  void expect(const VersionPtr& version);        // wake(), and its request is here in a moment
  void keep(const VersionPtr& version);          // from now on what its owner wants held is held
  void retire(const Version& version);           // no new traffic: its instances end as soon as they are idle
  void end_idle(const Version& version);         // those that do nothing now end now; the version stays served
  Task<Ok> close(std::uint64_t grace_until_ns);  // ends all instances, at the latest then
  // What was measured of it so far, of its instances now too; and that of another version, its trial, as a beginning.
  Measures measure(const Version& version);
  void learn(const VersionPtr& version, const Measures& measures);
  NodeMemory memory() const;
  std::uint64_t evictions() const { return evictions_; }  // of instances, so far
  const Pool* find(const Version& version) const;
  const VersionRecord* record(const Version& version) const;  // null: nothing is known of it
  const std::unordered_map<const Version*, std::unique_ptr<Pool>>& pools() const { return pools_; }

  bool make_room(const VersionRecord& record, bool evict) override;
  policy::HandOver& hand_over() override { return hand_over_; }
  std::uint32_t max_starting() const override { return max_starting_; }
  std::uint64_t lag_ns() const override { return lag_.ns(); }
  ArtefactSupply* supply() override { return supply_; }
  // Of each artefact of a version that has had an instance: whether one maps it or is about to, and how likely one will
  // within the horizon.
  struct ArtefactUse {
    bool in_use = false;
    double use = 0;
  };
  std::unordered_map<std::string, ArtefactUse> artefact_uses(std::uint64_t horizon_ns) const;
  // None of the file is in the page cache any more.
  void forget_artefact(std::string_view path);
  void on_event(VersionRecord& record, std::uint64_t instance, std::string_view event,
                std::string_view detail) override;

 private:
  struct Candidates;
  Pool& pool(const VersionPtr& version);
  VersionRecord& record_of(const VersionPtr& version);
  Candidates candidates() const;
  void arm();
  Task<void> run_timer();
  Executor executor_;
  LauncherClient& launcher_;
  NodeObserver& observer_;
  ArtefactSupply* supply_ = nullptr;  // null: what is missing stays missing
  std::uint64_t memory_budget_, evictions_ = 0;
  // When memory was last counted, what was in use then, and what starts have been given since.
  std::uint64_t counted_ns_ = 0, counted_bytes_ = 0, given_bytes_ = 0;
  std::unordered_map<const Version*, std::unique_ptr<VersionRecord>> records_;
  std::unordered_map<const Version*, std::unique_ptr<Pool>> pools_;
  std::uint32_t max_starting_;
  policy::HandOver hand_over_;
  Timer timer_;
  policy::Lateness lag_;  // how late the timer comes
  bool armed_ = false, closing_ = false, slow_ = false;
};

}  // namespace mayfly
