// The instances of one version and the requests that wait for them. Owner: the node; one reactor.
// First come, first served; one start serves all who wait; the queue is bounded by the endpoint's `queue` and each
// waiter by its deadline. Who is started and who is ended is decided by policy/scale.h; this class only performs it.
#pragma once
#include <deque>
#include <list>
#include <memory>
#include <vector>

#include "node/lease.h"
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
      : executor_(ex), launcher_(launcher), version_(std::move(version)), observer_(observer) {}
  // Errors: queue_full, deadline_exceeded, instance_failed, cancelled.
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
  // Nothing is here and nothing is to be kept.
  bool forgettable() const { return instances_.empty() && waiters_.empty() && min_instances() == 0; }
  bool urgent() const;  // someone waits or runs: tick often
  std::uint32_t waiting() const { return static_cast<std::uint32_t>(waiters_.size()); }
  const std::vector<std::shared_ptr<Instance>>& instances() const { return instances_; }
  const Version& version() const { return *version_; }
  const PoolCounters& counters() const { return counters_; }

  void on_ready(Instance& instance) override;
  void on_slot_free(Instance& instance) override;
  void on_run(std::uint64_t wall_ns) override { run_ns_ = run_ns_ == 0 ? wall_ns : (run_ns_ * 7 + wall_ns) / 8; }
  void on_batching_failed(Instance& instance) override;
  std::uint64_t arrival_gap_ns() const override { return gap_ns_; }
  std::uint64_t run_time_ns() const override { return run_ns_; }
  void on_dead(Instance& instance, const std::string& cause, EndKind kind, bool was_ready) override;

 private:
  struct Waiter {
    OneShot<Result<Lease>> granted;
    Pool* pool = nullptr;
    Ask ask;
    static void cancel(void* self);
  };
  std::uint32_t min_instances() const { return kept_ ? version_->settings.min_instances : 0; }
  std::optional<Lease> try_lease(bool may_join);
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
  std::list<Waiter*> waiters_;
  PoolCounters counters_;
  std::uint32_t failures_ = 0;  // consecutive starts that came to nothing
  std::uint64_t backoff_until_ns_ = 0;
  bool kept_ = false;  // the live version: `min` is in force
  bool retired_ = false, closed_ = false;
  bool batching_off_ = false;  // a run did not come back row by row
  std::uint64_t gap_ns_ = 0, last_arrival_ns_ = 0, run_ns_ = 0;
};

}  // namespace mayfly
