// The instances of one version and the requests that wait for them. Owner: the node; one reactor.
// First come, first served; one start serves all who wait; the queue is bounded by the endpoint's `queue` and each
// waiter by its deadline. Who is started and who is ended is decided by policy/scale.h; this class only performs it.
#pragma once
#include <deque>
#include <list>
#include <memory>
#include <vector>

#include "node/instance.h"
#include "policy/scale.h"
#include "worker_ipc/input_area.h"

namespace mayfly {

// A slot of an instance, held for one request; gives it back when it goes.
class Lease {
 public:
  Lease() = default;
  Lease(std::shared_ptr<Instance> instance, std::uint32_t slot, bool cold)
      : instance_(std::move(instance)), slot_(slot), cold_(cold) {}
  Lease(Lease&& o) noexcept
      : instance_(std::move(o.instance_)),
        slot_(o.slot_),
        cold_(o.cold_),
        bytes_used_(o.bytes_used_),
        abandoned_(o.abandoned_) {}
  Lease& operator=(Lease&& o) noexcept;
  ~Lease() { release(); }
  // Where the request's tensors go; `input` is the whole region, for what is no tensor.
  InputArea area() const { return InputArea(input()); }
  std::span<std::byte> input() const { return instance_->arena().input(slot_); }
  std::span<const std::byte> output() const { return instance_->arena().output(slot_); }
  bool cold() const { return cold_; }
  const Instance& instance() const { return *instance_; }
  // Submits `request`, whose tensors lie in input(), and waits for the answer, at most until the deadline. The request
  // is the caller's own memory: nothing in the arena can be trusted to stay as it was written.
  Task<CallOutcome> run(const SlotRequest& request, SlotResult& result, std::uint64_t deadline_ns);
  // The input region was written, and the request will not run: its pages go back.
  void discard_input() { bytes_used_ = ~0ULL; }

 private:
  void release();
  std::shared_ptr<Instance> instance_;
  std::uint32_t slot_ = 0;
  bool cold_ = false;
  std::uint64_t bytes_used_ = 0;
  bool abandoned_ = false;
};

struct PoolCounters {
  std::uint64_t starts = 0, start_failures = 0, deaths = 0;
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
  // Errors: queue_full, deadline_exceeded, instance_failed.
  Task<Result<Lease>> acquire(std::uint64_t deadline_ns);
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
  bool forgettable() const { return instances_.empty() && waiters_.empty() && min_instances() == 0; }
  bool urgent() const;  // someone waits or runs: tick often
  std::uint32_t waiting() const { return static_cast<std::uint32_t>(waiters_.size()); }
  const std::vector<std::shared_ptr<Instance>>& instances() const { return instances_; }
  const Version& version() const { return *version_; }
  const PoolCounters& counters() const { return counters_; }

  void on_ready(Instance& instance) override;
  void on_slot_free(Instance& instance) override;
  void on_dead(Instance& instance, const std::string& cause, EndKind kind, bool was_ready) override;

 private:
  struct Waiter {
    OneShot<Result<Lease>> granted;
    std::uint64_t deadline_ns = 0;
  };
  std::uint32_t min_instances() const { return kept_ ? version_->settings.min_instances : 0; }
  std::optional<Lease> try_lease();
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
};

}  // namespace mayfly
