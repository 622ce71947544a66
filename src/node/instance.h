// One instance as the server sees it: its arena, its two eventfds, the calls it holds. Owner: its pool; one reactor.
// States move one way: starting → ready → ending → dead; between ready and ending it may be parked and resumed, any
// number of times: parked, its process is stopped and keeps what it holds. A slot is free, leased (a request is being
// parsed into it), open (a batch that requests still join) or submitted. Each request that holds a place in the
// instance finds a slot when it needs one: places are as many as slots, and a slot that still runs for nobody takes
// one. Whatever the arena says is checked (worker_ipc/arena.h): an instance that breaks the contract is ended and its
// calls are retried.
#pragma once
#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "async/one_shot.h"
#include "launcher/client.h"
#include "node/batch.h"
#include "node/call.h"
#include "node/tier_watch.h"
#include "node/version.h"
#include "policy/batch.h"
#include "policy/hand_over.h"

namespace mayfly {

// kRefused: no sandbox could be made for it, which says nothing about its model.
enum class EndKind : std::uint8_t { kPlanned, kFailed, kRefused };

// Bytes of the input region that a request fills.
std::uint64_t used_bytes(const SlotRequest& request);

Error late(const Version& v);  // deadline_exceeded, while it ran

class Instance;
class InstanceOwner {  // the pool
 public:
  virtual ~InstanceOwner() = default;
  virtual void on_loaded(Instance& instance) = 0;  // it has its session, and runs the model now
  virtual void on_ready(Instance& instance) = 0;
  virtual void on_slot_free(Instance& instance) = 0;
  // A run that answered so many requests took so long, the hand-over included; run_ns: inside the runtime, as the
  // instance says.
  virtual void on_run(std::uint64_t wall_ns, std::uint64_t run_ns, std::uint32_t requests) = 0;
  virtual void on_tier(Instance& instance) = 0;             // it has another tier now
  virtual void on_resumed(std::uint64_t ns) = 0;            // a parked one has answered, so long after it was resumed
  virtual void on_batching_failed(Instance& instance) = 0;  // a batch did not come back row by row
  // How long requests of this version are apart, and how long a run takes (ns); 0: not known.
  virtual std::uint64_t arrival_gap_ns() const = 0;
  virtual std::uint64_t run_time_ns() const = 0;
  virtual std::uint64_t work_ns() const = 0;  // of it inside the runtime
  virtual policy::HandOver& hand_over() = 0;  // outlives it
  virtual void on_dead(Instance& instance, const std::string& cause, EndKind kind, bool was_ready) = 0;
};

enum class InstancePhase : std::uint8_t { kStarting, kReady, kParked, kEnding, kDead };

class Instance final : public SandboxListener, public std::enable_shared_from_this<Instance> {
 public:
  static Result<std::shared_ptr<Instance>> start(Executor ex, LauncherClient& launcher, VersionPtr version,
                                                 InstanceOwner& owner);
  Instance(Executor ex, LauncherClient& launcher, VersionPtr version, InstanceOwner& owner);
  ~Instance() override;

  // Of `limit` places, at most as many as it has slots.
  bool loaded() const { return loaded_; }  // its session is made
  bool has_place(std::uint32_t limit) const {
    return held_ < std::min(limit, slots_) && (phase_ == InstancePhase::kStarting || phase_ == InstancePhase::kReady);
  }
  void hold_place() { ++held_; }
  void give_place();
  std::uint32_t take_slot();  // for who holds a place
  void return_slot(std::uint32_t slot, std::uint64_t bytes_used);
  void submit(std::uint32_t slot, const SlotRequest& request, Call* call);  // call may be null: a probe, nobody waits
  // A request for it is being read: wakes it now where that pays, so that it is awake when the request is submitted.
  void expect();
  // Its caller went away: the run is cancelled where it can be; the slot is free again when it completes.
  void abandon(std::uint32_t slot);
  const std::shared_ptr<Batch>& open_batch();  // what requests join now; opens one if there is none
  void joined();                               // a member was added to it: submits it when that is due
  void left(const Batch& batch);               // a lease let go of it without joining
  void batching_failed() { owner_.on_batching_failed(*this); }
  void end(std::string why, EndKind kind);  // kill it; its calls are told so
  void park();                              // it is ready and holds no request
  void resume();                            // it is parked; requests may be handed to it at once
  // Ends the instance if what it runs has passed the version's timeout; gives up calls past their deadline.
  void check_time(std::uint64_t now);

  const ArenaView& arena() const { return arena_; }
  const Version& version() const { return *version_; }
  const VersionPtr& version_ptr() const { return version_; }
  InstancePhase phase() const { return phase_; }
  std::uint64_t id() const { return id_; }
  int pid() const { return pid_; }
  std::uint32_t busy() const { return held_; }  // requests that hold a place
  bool has_open_batch() const { return open_ != nullptr; }
  std::uint64_t spawned_ns() const { return spawned_ns_; }
  std::uint64_t last_used_ns() const { return last_used_ns_; }
  std::uint64_t requests() const { return requests_; }
  const TierWatch& tier() const { return tier_; }
  std::uint64_t parked_ns() const { return parked_ns_; }
  // It was started to be parked, before anybody asked for it; true until it is parked.
  bool ahead() const { return ahead_; }
  void set_ahead() { ahead_ = true; }
  // Its start waited for its artefact for as long.
  void set_supplied(std::uint64_t ns) { supplied_ns_ = ns; }
  // What the next request finds: the one whose place is taken first decides it.
  StartKind start_kind() const;
  std::uint64_t memory_bytes() const;  // what its cgroup is charged with; 0 where that can't be read
  // Looks how many pages are its own (what would be free if it ended: the artefact's shared mapping is not in it), not
  // too often.
  void measure(std::uint64_t now);
  std::uint64_t measured_bytes() const { return private_bytes_; }  // 0: not yet
  std::uint64_t artefact_bytes() const { return artefact_bytes_; }
  // Puts fetch, fork, isolate, map and init of its start there; valid once ready. The instance wrote them: values that
  // run backwards count as 0. What the request waited for the artefact is taken out of `queue`.
  void add_start_phases(Phases& p) const;

  void on_started(int pid, std::string_view memory_file) override {
    pid_ = pid;
    memory_file_ = memory_file;
  }
  void on_ended(const LaunchEvent& event, bool refused) override;

 private:
  Status make_arena();
  Status launch();
  Task<void> watch(std::shared_ptr<Instance> self);
  void drain();
  void wake();
  void wait_awake();
  void look_for_session();
  void probe_if_unasked();
  bool complete(std::uint32_t slot);
  void submit_open();
  void wait_for_batch(std::uint64_t until_ns);
  void fail_calls(std::string_view blame, const std::string& cause);

  LauncherClient& launcher_;
  VersionPtr version_;
  InstanceOwner& owner_;
  policy::HandOver& hand_over_;  // the node's
  std::uint64_t id_;
  int pid_ = 0;
  InstancePhase phase_ = InstancePhase::kStarting;
  std::uint32_t slots_;
  Fd arena_fd_, wake_fd_;
  Mapping mapping_;
  ArenaView arena_;
  asio::posix::basic_stream_descriptor<Executor> done_;
  std::vector<std::uint32_t> free_;
  std::uint32_t held_ = 0;
  std::shared_ptr<Batch> open_;
  bool submit_posted_ = false;
  bool expected_ = false;  // woken by expect(), and nothing was submitted since
  Timer batch_timer_;
  std::array<Call*, kMaxSlots> calls_{};
  std::array<bool, kMaxSlots> submitted_{};
  std::deque<std::uint32_t> running_;  // submitted, in order; the front is what the instance works on
  std::uint64_t front_since_ns_ = 0;   // when the front came to the front
  std::uint64_t spawned_ns_ = 0, last_used_ns_ = 0, parked_ns_ = 0, resumed_ns_ = 0, requests_ = 0;
  std::array<std::uint64_t, kMaxSlots> used_{};  // bytes of the input region that the slot's request fills
  std::string end_cause_;
  EndKind end_kind_ = EndKind::kFailed;
  bool loaded_ = false;
  bool ahead_ = false;
  std::string memory_file_;  // told by the launcher
  TierWatch tier_;
  std::uint64_t supplied_ns_ = 0;
  std::uint64_t private_bytes_ = 0, measured_ns_ = 0, measured_requests_ = 0, artefact_bytes_ = 0;
};

}  // namespace mayfly
