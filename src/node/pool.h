// The instances of one version and the requests that wait for them. Owner: the node; one reactor.
// One start serves all who wait. Who is started and who is ended (policy/scale.h), who is served next
// (policy/fair_queue.h) and whom to refuse at once (policy/admit.h) is decided there; this class only performs it. The
// queue is bounded by the endpoint's `queue`, and each waiter by its deadline. A start whose artefact is not on disk
// first has it supplied (supply.h); meanwhile nothing is started, and those who ask wait.
#pragma once
#include <memory>
#include <vector>

#include "node/lease.h"
#include "node/record.h"
#include "node/supply.h"
#include "policy/admit.h"
#include "policy/fair_queue.h"
#include "policy/hold.h"
#include "policy/scale.h"

namespace mayfly {

// What a request asks of the node.
struct Ask {
  std::uint64_t deadline_ns = 0;
  CancelSignal* cancel = nullptr;  // may be null
  bool may_join = true;            // with others in a batch, where the version allows it
  std::uint64_t flow = 0;          // who asks, for the fair share: Principal::flow
  std::uint32_t weight = 1;
  std::uint64_t priority = 0;  // policy::priority_level
};

class PoolHost {  // the node
 public:
  virtual ~PoolHost() = default;
  // Whether memory is there for one more instance; with `evict`, idle ones elsewhere are ended for it.
  virtual bool make_room(const VersionRecord& record, bool evict) = 0;
  virtual policy::HandOver& hand_over() = 0;
  // How long what has happened may wait for the reactor's turn, ns.
  virtual std::uint64_t lag_ns() const = 0;
  virtual std::uint32_t max_starting() const = 0;  // of one version at a time, see policy::useful_starts
  virtual void on_event(VersionRecord& record, std::uint64_t instance, std::string_view event,
                        std::string_view detail) = 0;
  virtual ArtefactSupply* supply() = 0;  // may be null
};

class Pool final : public InstanceOwner {
 public:
  Pool(Executor ex, LauncherClient& launcher, VersionRecord& record, PoolHost& host)
      : executor_(ex),
        launcher_(launcher),
        version_(record.version),
        record_(record),
        host_(host),
        queue_(version_->settings.queue) {}
  ~Pool() override {
    if (supplying_) supplying_->pool = nullptr;
  }
  // Whether a request would be refused now, were its body here. Errors: queue_full, deadline_exceeded,
  // deadline_unreachable, the latter and the first with retry_after_s.
  Status admit(const Ask& ask, std::uint64_t now);
  // The errors of admit(), and instance_failed, node_full, cancelled.
  Task<Result<Lease>> acquire(Ask ask);
  // The run of a request that waited, of `flow`, took `actual_ns` and not what its lease was charged.
  void settle(std::uint64_t flow, std::uint64_t charged_ns, std::uint64_t actual_ns) {
    queue_.settle(flow, charged_ns, actual_ns);
  }
  void wake(std::uint32_t instances = 1);  // at least so many warm ones, as far as `max` goes, without waiting
  void expect();                           // a request for it is being read
  void tick(std::uint64_t now);            // deadlines, hangs, what is idle, what is held
  void keep();                             // the version is live: what its owner wants held is in force
  void retire() {
    kept_ = false;
    retired_ = true;
  }
  void close() { closed_ = true; }  // nothing is started any more
  void end_all(const std::string& why);
  void end_idle(const std::string& why);
  // Nothing is here and nothing is to be held, now or later.
  bool forgettable() const;
  policy::Hold hold() const;
  // Its owner wants something held while nobody calls.
  static bool holds_something(const Version& v);
  bool lacks_room() const { return no_room_; }
  bool retired() const { return retired_; }
  // Since when a start waits for its artefact; 0: none does.
  std::uint64_t supplying_since_ns() const { return supplying_ ? supplying_->since_ns : 0; }
  // What its start waits for after failed ones; 0: nothing.
  std::uint64_t backoff_until_ns() const { return backoff_until_ns_; }
  bool urgent() const;  // someone waits or runs: tick often
  std::uint32_t waiting() const { return static_cast<std::uint32_t>(queue_.size()); }
  const std::vector<std::shared_ptr<Instance>>& instances() const { return instances_; }
  const Version& version() const { return *version_; }
  const VersionRecord& record() const { return record_; }

  void on_loaded(Instance& instance) override;
  void on_ready(Instance& instance) override;
  void on_slot_free(Instance& instance) override;
  void on_run(std::uint64_t wall_ns, std::uint64_t run_ns, std::uint32_t requests) override;
  void on_tier(Instance& instance) override;
  void on_batching_failed(Instance& instance) override;
  void on_resumed(std::uint64_t ns) override;
  std::uint64_t arrival_gap_ns() const override { return record_.gap_ns; }
  std::uint64_t run_time_ns() const override { return record_.measures.run.high_ns(); }
  std::uint64_t work_ns() const override { return record_.measures.work.mean_ns(); }
  policy::HandOver& hand_over() override { return host_.hand_over(); }
  void on_dead(Instance& instance, const std::string& cause, EndKind kind, bool was_ready) override;

 private:
  struct Waiter final : policy::FairEntry {
    OneShot<Result<Lease>> granted;
    Pool* pool = nullptr;
    bool may_join = true;
    static void cancel(void* self);
  };
  void describe(policy::FairEntry& e, const Ask& ask) const;
  // Of a run, until the reactor has its turn to send the answer, and of its way; 0: not measured.
  std::uint64_t need_ns(std::uint64_t deadline_ns, std::uint64_t now) const {
    const policy::RunTime& run = record_.measures.run;
    return run.measured() ? run.high_ns() + host_.lag_ns() + policy::reserve_ns(deadline_ns, now) : 0;
  }
  Error queue_full(std::uint32_t retry_after_s) const;
  Error too_late() const;
  Status refusal(const policy::FairEntry& e, std::uint64_t now);  // of what would have to wait
  Instance* find_place(bool may_join) const;
  bool packs() const;
  std::uint32_t places() const;  // requests that one instance is handed at once
  bool joins(bool may_join) const { return may_join && version_->batch && !batching_off_; }
  void note_arrival();
  void serve_waiters();
  void scale(std::uint64_t now, std::uint32_t arriving = 0);
  void wake_more();
  bool resume_one();
  bool start_one(bool evict = true);
  void start_failed(Error error);
  struct Supplying {  // shared with the task, which may outlive the pool
    Pool* pool = nullptr;
    std::uint64_t since_ns = 0;
  };
  void begin_supply();
  static Task<void> run_supply(ArtefactSupply* supply, VersionPtr version, std::shared_ptr<Supplying> state);
  void on_supplied(const Result<Supplied>& supplied);
  void settle_idle(Instance& i, const policy::Hold& held, std::uint64_t now);
  std::uint32_t count(InstancePhase phase) const;
  void fail_waiters(const Error& error);
  policy::PoolState state() const;

  Executor executor_;
  LauncherClient& launcher_;
  VersionPtr version_;
  VersionRecord& record_;
  PoolHost& host_;
  std::vector<std::shared_ptr<Instance>> instances_;
  policy::FairQueue queue_;
  std::uint32_t failures_ = 0;  // consecutive starts that came to nothing
  std::uint64_t backoff_until_ns_ = 0;
  bool kept_ = false;  // the live version: `min` is in force
  bool retired_ = false, closed_ = false;
  bool shared_ = false;        // somebody waited since nothing ran
  bool batching_off_ = false;  // a run did not come back row by row
  bool no_room_ = false;       // the latest start found the node's memory full
  std::string refused_;        // why the latest start got no sandbox; empty: it got one
  std::uint32_t provisioned_ = 0;
  std::shared_ptr<Supplying> supplying_;  // null: no start waits for its artefact
  std::optional<Error> supply_error_;     // of the latest supply: who asks before the next try is told it
  std::uint64_t supplied_ns_ = 0;         // what the instances that are started now have waited for
  std::uint32_t woken_ = 0;               // instances that wake() asked for and could not start yet
};

}  // namespace mayfly
