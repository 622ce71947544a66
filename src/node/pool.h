// The instances of one version and the requests that wait for them. Owner: the node; one reactor.
// One start serves all who wait. Who is started and who is ended (policy/scale.h), who is served next
// (policy/fair_queue.h) and whom to refuse at once (policy/admit.h) is decided there; this class only performs it. The
// queue is bounded by the endpoint's `queue`, and each waiter by its deadline.
#pragma once
#include <memory>
#include <vector>

#include "node/lease.h"
#include "policy/admit.h"
#include "policy/fair_queue.h"
#include "policy/scale.h"

namespace mayfly {

struct PoolCounters {
  std::uint64_t starts = 0, start_failures = 0, deaths = 0;
};

// What a request asks of the node.
struct Ask {
  std::uint64_t deadline_ns = 0;
  CancelSignal* cancel = nullptr;  // may be null
  bool may_join = true;            // with others in a batch, where the version allows it
  std::uint64_t flow = 0;          // who asks, for the fair share: Principal::flow
  std::uint32_t weight = 1;
  std::uint64_t priority = 0;  // policy::priority_level
};

class NodeObserver {  // life-cycle events, for the endpoint's log and metrics
 public:
  virtual ~NodeObserver() = default;
  virtual void on_instance_event(const Version& v, std::uint64_t instance, std::string_view event,
                                 std::string_view detail) = 0;
};

class Pool final : public InstanceOwner {
 public:
  Pool(Executor ex, LauncherClient& launcher, VersionPtr version, NodeObserver& observer)
      : executor_(ex),
        launcher_(launcher),
        version_(std::move(version)),
        observer_(observer),
        queue_(version_->settings.queue) {}
  // Whether a request would be refused now, were its body here. Errors: queue_full, deadline_exceeded,
  // deadline_unreachable, the latter and the first with retry_after_s.
  Status admit(const Ask& ask, std::uint64_t now);
  // The errors of admit(), and instance_failed, cancelled.
  Task<Result<Lease>> acquire(Ask ask);
  void wake();                   // at least one instance, without waiting
  void tick(std::uint64_t now);  // deadlines, hangs, idle ends, min
  void keep() {                  // the version is live: its `min` is in force
    kept_ = true;
    retired_ = false;
  }
  void retire() {
    kept_ = false;
    retired_ = true;
  }
  void close() { closed_ = true; }  // nothing is started any more
  void end_all(const std::string& why);
  void end_idle(const std::string& why);
  // Nothing is here and nothing is to be kept.
  bool forgettable() const { return instances_.empty() && queue_.empty() && min_instances() == 0; }
  bool urgent() const;  // someone waits or runs: tick often
  std::uint32_t waiting() const { return static_cast<std::uint32_t>(queue_.size()); }
  const std::vector<std::shared_ptr<Instance>>& instances() const { return instances_; }
  const Version& version() const { return *version_; }
  const PoolCounters& counters() const { return counters_; }

  void on_ready(Instance& instance) override;
  void on_slot_free(Instance& instance) override;
  void on_run(std::uint64_t wall_ns, std::uint64_t run_ns, std::uint32_t requests) override;
  void on_tier(Instance& instance) override;
  void on_batching_failed(Instance& instance) override;
  std::uint64_t arrival_gap_ns() const override { return gap_ns_; }
  std::uint64_t run_time_ns() const override { return run_time_.high_ns(); }
  void on_dead(Instance& instance, const std::string& cause, EndKind kind, bool was_ready) override;

 private:
  struct Waiter final : policy::FairEntry {
    OneShot<Result<Lease>> granted;
    Pool* pool = nullptr;
    bool may_join = true;
    static void cancel(void* self);
  };
  static void describe(policy::FairEntry& e, const Ask& ask, std::uint64_t cost_ns);
  Error queue_full(std::uint32_t retry_after_s) const;
  Error too_late() const;
  Status refusal(const policy::FairEntry& e, std::uint64_t now) const;  // of what would have to wait
  Instance* find_place(bool may_join) const;
  std::uint32_t min_instances() const { return kept_ ? version_->settings.min_instances : 0; }
  bool packs() const;
  std::uint32_t places() const;  // requests that one instance is handed at once
  bool joins(bool may_join) const { return may_join && version_->batch && !batching_off_; }
  void note_arrival();
  void serve_waiters();
  void scale(std::uint64_t now, std::uint32_t arriving = 0);
  bool start_one();
  void fail_waiters(const Error& error);
  policy::PoolState state() const;

  Executor executor_;
  LauncherClient& launcher_;
  VersionPtr version_;
  NodeObserver& observer_;
  std::vector<std::shared_ptr<Instance>> instances_;
  policy::FairQueue queue_;
  policy::RunTime work_time_;                // inside the runtime
  policy::RunTime run_time_, request_time_;  // of a run; of it for each request that it answered
  policy::RunTime start_time_;               // from spawning to ready
  PoolCounters counters_;
  std::uint32_t failures_ = 0;  // consecutive starts that came to nothing
  std::uint64_t backoff_until_ns_ = 0;
  bool kept_ = false;  // the live version: `min` is in force
  bool retired_ = false, closed_ = false;
  bool shared_ = false;        // somebody waited since nothing ran
  bool batching_off_ = false;  // a run did not come back row by row
  std::uint64_t gap_ns_ = 0, last_arrival_ns_ = 0;
};

}  // namespace mayfly
