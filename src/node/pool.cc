#include "node/pool.h"

#include <algorithm>

namespace mayfly {
namespace {
constexpr std::uint64_t kPackRunNs = 300'000;         // runs shorter than this are joined on few instances
constexpr std::uint64_t kLongGapNs = 1'000'000'000;   // longer pauses say nothing more
constexpr std::uint32_t kFailuresBeforeRefusing = 3;  // starts in a row that failed: waiters are told instead of kept
constexpr std::uint64_t kSupplyFailureNs = 10'000'000'000;  // how long after its pause a failed supply is remembered
}  // namespace

policy::PoolState Pool::state() const {
  policy::PoolState s;
  s.min = hold().warm;
  s.max = version_->settings.max_instances;
  s.concurrency = places();
  s.waiting = waiting();
  s.max_starting = host_.max_starting();
  s.backoff_until_ns = backoff_until_ns_;
  for (const auto& i : instances_) {
    if (i->phase() == InstancePhase::kStarting && !i->loaded())
      ++s.starting;
    else if (i->phase() <= InstancePhase::kReady)
      ++s.ready;
    else
      continue;
    s.busy_slots += i->busy();
  }
  return s;
}

// Short runs are better run together than on many instances: one takes at least a whole batch then.
bool Pool::packs() const {
  return joins(true) && record_.measures.work.measured() && record_.measures.work.mean_ns() < kPackRunNs;
}

std::uint32_t Pool::places() const {
  const std::uint32_t concurrency = version_->settings.concurrency;
  return std::min(packs() ? std::max(concurrency, version_->batch.max_rows) : concurrency, kMaxSlots);
}

// An instance that is ready before one that is starting, then the least busy; or, where requests are packed, one that
// has a batch open.
Instance* Pool::find_place(bool may_join) const {
  const bool pack = may_join && packs();
  const std::uint32_t limit = places();
  Instance* best = nullptr;
  for (const auto& i : instances_) {
    if (!i->has_place(limit)) continue;
    if (best == nullptr) {
      best = i.get();
      continue;
    }
    const bool ready = i->phase() == InstancePhase::kReady, best_ready = best->phase() == InstancePhase::kReady;
    const bool preferred = pack ? i->has_open_batch() && !best->has_open_batch() : i->busy() < best->busy();
    if (ready == best_ready ? preferred : ready) best = i.get();
  }
  return best;
}

void Pool::note_arrival() {
  const std::uint64_t now = now_ns();
  const std::uint64_t last = std::exchange(record_.last_arrival_ns, now);
  if (last == 0) return;
  std::uint64_t& mean = record_.gap_ns;
  mean = mean == 0 ? now - last : (mean * 7 + std::min(now - last, kLongGapNs)) / 8;
}

void Pool::on_run(std::uint64_t wall_ns, std::uint64_t run_ns, std::uint32_t requests) {
  record_.measures.work.observe(std::min(run_ns, wall_ns));
  record_.measures.run.observe(wall_ns);
  record_.measures.request.observe(wall_ns / std::max(requests, 1U));
}

void Pool::Waiter::cancel(void* self) {
  auto* w = static_cast<Waiter*>(self);
  if (w->granted.is_set()) return;
  w->pool->queue_.remove(*w);
  w->granted.set(Error{Code::kCancelled, "cancelled", "the caller went away while it waited"});
}

void Pool::describe(policy::FairEntry& e, const Ask& ask) const {
  e.flow = ask.flow;
  e.weight = ask.weight;
  e.priority = ask.priority;
  e.deadline_ns = ask.deadline_ns;
  e.cost_ns = record_.measures.request.mean_ns();
  e.need_ns = need_ns(ask.deadline_ns, now_ns());  // as admit() has it
}

Error Pool::queue_full(std::uint32_t retry_after_s) const {
  Error e = make_error(Code::kResourceExhausted, "queue_full",
                       "the queue of {} is full: {} requests wait; retry later or raise queue or max",
                       version_->display(), queue_.size());
  e.retry_after_s = retry_after_s;
  return e;
}

Error Pool::too_late() const {
  if (no_room_ && instances_.empty()) {
    Error e = make_error(Code::kUnavailable, "node_full",
                         "no memory was free for an instance of {} within the deadline: all of the node's budget is in "
                         "use; retry later, or raise --memory-budget",
                         version_->display());
    e.retry_after_s = 1;
    return e;
  }
  if (!refused_.empty() && instances_.empty()) {
    Error e = make_error(Code::kUnavailable, "sandbox_unavailable",
                         "no sandbox could be made for an instance of {} within the deadline: {}; retry later",
                         version_->display(), refused_);
    e.retry_after_s = policy::retry_after_s(policy::start_backoff_ns(failures_));
    return e;
  }
  return make_error(
      Code::kDeadlineExceeded, "deadline_exceeded", "no instance of {} was free within the deadline{}",
      version_->display(),
      supplying_ ? ": its artefact is still being fetched or rebuilt; retry later, or raise timeout" : "");
}

// An instance runs one request, or one batch, at a time: its capacity is one slot of run time, however many requests it
// holds.
Status Pool::refusal(const policy::FairEntry& e, std::uint64_t now) {
  const std::uint32_t later = policy::start_later(state());
  queue_.set_max_entries(version_->settings.queue + std::size_t{later} * places());
  policy::AdmitState s;
  s.starting_slots = later;
  s.deadline_ns = e.deadline_ns;
  s.run_ns = e.need_ns;
  std::uint64_t running = 0, oldest = now;
  for (const auto& i : instances_) {
    running += i->busy();
    if (i->phase() == InstancePhase::kReady) ++s.ready_slots;
    if (i->phase() == InstancePhase::kStarting) {
      ++s.starting_slots;
      oldest = std::min(oldest, i->spawned_ns());
    }
  }
  const std::uint64_t start = record_.measures.start.mean_ns(), since = now - oldest;
  s.start_left_ns = start > since ? start - since : 0;
  s.running_left_ns = running * record_.measures.request.mean_ns();
  s.ahead_ns = queue_.cost_ahead_ns(e);
  s.queue_refuses = queue_.refuses(e);
  const policy::Admission a = policy::admit(s, now);
  switch (a.verdict) {
    case policy::Verdict::kAdmit:
      return Ok{};
    case policy::Verdict::kDeadlinePassed:
      return too_late();
    case policy::Verdict::kQueueFull:
      return queue_full(a.retry_after_s);
    case policy::Verdict::kDeadlineUnreachable:
      break;
  }
  Error out = make_error(Code::kUnavailable, std::string(policy::verdict_name(a.verdict)),
                         "{} is too busy for this deadline: the request would wait {} ms, as predicted from the runs "
                         "measured; retry later or raise timeout or max",
                         version_->display(), a.wait_ns / 1'000'000);
  out.retry_after_s = a.retry_after_s;
  return out;
}

Status Pool::admit(const Ask& ask, std::uint64_t now) {
  if (queue_.empty() && (find_place(ask.may_join) != nullptr || instances_.empty())) return Ok{};
  policy::FairEntry e;
  describe(e, ask);
  return refusal(e, now);
}

Task<Result<Lease>> Pool::acquire(Ask ask) {
  note_arrival();
  if (queue_.empty()) {
    if (Instance* i = find_place(ask.may_join)) co_return Lease(i->shared_from_this(), joins(ask.may_join));
  }
  const std::uint64_t now = now_ns();
  if (supply_error_ && now < backoff_until_ns_ && instances_.empty()) {
    Error e = *supply_error_;
    e.retry_after_s = policy::retry_after_s(backoff_until_ns_ - now);
    co_return e;
  }
  scale(now, 1);
  if (queue_.empty()) {
    if (Instance* i = find_place(ask.may_join)) co_return Lease(i->shared_from_this(), joins(ask.may_join));
  }
  if (ask.cancel != nullptr && ask.cancel->fired()) {
    co_return Error{Code::kCancelled, "cancelled", "the caller went away before it waited"};
  }
  Waiter waiter;
  waiter.pool = this;
  waiter.may_join = ask.may_join;
  describe(waiter, ask);
  if (Status st = refusal(waiter, now); !st.ok()) co_return std::move(st.error());
  shared_ = true;
  if (policy::FairEntry* out = queue_.push(waiter)) {
    static_cast<Waiter*>(out)->granted.set(
        queue_full(policy::retry_after_s(queue_.queued_cost_ns() / std::max<std::uint64_t>(1, instances_.size()))));
  }
  const CancelScope scope(ask.cancel, &Waiter::cancel, &waiter);
  co_return co_await waiter.granted.wait();
}

void Pool::serve_waiters() {
  while (!queue_.empty()) {
    Instance* place = find_place(true);
    if (place == nullptr) return;
    const auto next = queue_.pop(now_ns());
    if (next.entry == nullptr) return;
    auto* w = static_cast<Waiter*>(next.entry);
    if (next.expired) {
      w->granted.set(too_late());
      continue;
    }
    Lease lease(place->shared_from_this(), joins(w->may_join));
    lease.charge(w->cost_ns);
    w->granted.set(std::move(lease));
  }
}

std::uint32_t Pool::count(InstancePhase phase) const {
  return static_cast<std::uint32_t>(
      std::count_if(instances_.begin(), instances_.end(), [phase](const auto& i) { return i->phase() == phase; }));
}

bool Pool::holds_something(const Version& v) {
  const NodeSettings& s = v.settings;
  return s.min_instances > 0 || s.parked > 0 || s.cold_start_budget_ms > 0 || !s.provisioned.empty();
}

policy::Hold Pool::hold() const {
  const NodeSettings& n = version_->settings;
  policy::HoldState s;
  s.live = kept_ || !holds_something(*version_);  // keep() is called only where there is something to hold
  s.min = n.min_instances;
  s.max = n.max_instances;
  s.parked = n.parked;
  s.provisioned = provisioned_;
  s.budget_ns = n.cold_start_budget_ms * 1'000'000;
  s.cold_ns = record_.cold_ns();
  s.resume_ns = record_.resume_ns();
  return policy::what_to_hold(s);
}

void Pool::keep() {
  kept_ = true;
  retired_ = false;
  provisioned_ = policy::provisioned_at(version_->settings.provisioned, unix_ms() / 1000);
}

// Each request comes here with its head: the first instance that is awake will answer it.
void Pool::expect() {
  if (!queue_.empty() || host_.hand_over().under_way() > 0) return;  // under load there is nobody to look for
  if (Instance* i = find_place(true)) i->expect();
}

bool Pool::forgettable() const {
  if (!instances_.empty() || !queue_.empty() || supplying_) return false;
  if (supply_error_ && now_ns() < backoff_until_ns_ + kSupplyFailureNs) return false;
  return !(kept_ && holds_something(*version_));
}

void Pool::wake(std::uint32_t instances) {
  const auto awake = [](const auto& i) { return i->phase() <= InstancePhase::kReady; };
  if (instances == 1 && std::any_of(instances_.begin(), instances_.end(), awake)) return;
  instances = std::min(instances, version_->settings.max_instances);
  auto have = static_cast<std::uint32_t>(std::count_if(instances_.begin(), instances_.end(), awake));
  while (have < instances && resume_one()) ++have;
  for (; have < instances && now_ns() >= backoff_until_ns_; ++have) {
    if (state().starting >= host_.max_starting()) {
      woken_ = instances;
      return;
    }
    if (start_one()) continue;
    if (supplying_) woken_ = std::max(woken_, instances);
    return;
  }
}

void Pool::wake_more() {
  if (const std::uint32_t woken = std::exchange(woken_, 0); woken > 0 && !retired_ && !closed_) wake(woken);
}

// arriving: requests that are about to wait.
void Pool::scale(std::uint64_t now, std::uint32_t arriving) {
  if (closed_) return;
  policy::PoolState s = state();
  s.waiting += arriving;
  const bool backing_off = now < std::exchange(s.backoff_until_ns, 0);
  std::uint32_t wanted = policy::scale_up(s, now).start;
  while (wanted > 0 && resume_one()) --wanted;
  if (backing_off) return;
  for (; wanted > 0; --wanted) {
    if (!start_one()) return;
  }
  if (s.waiting > 0) return;
  const policy::Hold held = hold();
  for (auto have = static_cast<std::uint32_t>(instances_.size()); have < held.warm + held.parked; ++have) {
    if (!start_one(false)) return;
  }
}

// The one that was parked last: its pages are the likeliest to be in the caches.
bool Pool::resume_one() {
  Instance* best = nullptr;
  for (const auto& i : instances_) {
    if (i->phase() == InstancePhase::kParked && (best == nullptr || i->parked_ns() > best->parked_ns())) best = i.get();
  }
  if (best == nullptr) return false;
  ++record_.counters.resumes;
  best->resume();
  host_.on_event(record_, best->id(), "resumed", "");
  return true;
}

void Pool::start_failed(Error error) {
  ++record_.counters.start_failures;
  ++failures_;
  woken_ = 0;
  backoff_until_ns_ = now_ns() + policy::start_backoff_ns(failures_);
  if (instances_.empty()) fail_waiters(error);  // else those that live will serve them
}

bool Pool::start_one(bool evict) {
  if (supplying_) return false;
  const bool supplied = host_.supply() == nullptr || artefact_there(*version_);
  if (!supplied) return begin_supply(), false;
  no_room_ = !host_.make_room(record_, evict);
  if (no_room_) return false;
  ++record_.counters.starts;
  auto instance = Instance::start(executor_, launcher_, version_, *this);
  if (!instance.ok()) {
    // It was removed after the look.
    if (host_.supply() != nullptr && !artefact_there(*version_)) return begin_supply(), false;
    start_failed(make_error(Code::kUnavailable, "instance_lost", "cannot start an instance of {}: {}",
                            version_->display(), instance.error().message));
    return false;
  }
  if (!evict) (*instance)->set_ahead();
  (*instance)->set_supplied(supplied_ns_);
  record_.measures.artefact_bytes = (*instance)->artefact_bytes();
  record_.artefact_cached = true;
  host_.on_event(record_, (*instance)->id(), "starting", "");
  instances_.push_back(std::move(*instance));
  return true;
}

void Pool::begin_supply() {
  ++record_.counters.supplies;
  supplying_ = std::make_shared<Supplying>(Supplying{this, now_ns()});
  host_.on_event(record_, 0, "artefact_missing", "");
  asio::co_spawn(executor_, run_supply(host_.supply(), version_, supplying_), asio::detached);
}

Task<void> Pool::run_supply(ArtefactSupply* supply, VersionPtr version, std::shared_ptr<Supplying> state) {
  const auto supplied = co_await supply->supply(std::move(version));
  if (state->pool != nullptr) state->pool->on_supplied(supplied);
}

void Pool::on_supplied(const Result<Supplied>& supplied) {
  const std::uint64_t now = now_ns(), since = std::exchange(supplying_, nullptr)->since_ns;
  if (!supplied.ok()) {
    supply_error_ = supplied.error();
    supply_error_->message =
        fmt::format("cannot start an instance of {}: {}", version_->display(), supplied.error().message);
    host_.on_event(record_, 0, "artefact_unavailable", supplied.error().message);
    return start_failed(*supply_error_);
  }
  supply_error_.reset();
  failures_ = 0;
  backoff_until_ns_ = 0;
  host_.on_event(record_, 0, supplied->fetched ? "artefact_fetched" : "artefact_rebuilt",
                 fmt::format("{} bytes in {} ms, {} ms of them in the compile job", supplied->bytes,
                             (now - since) / 1'000'000, supplied->build_ns / 1'000'000));
  supplied_ns_ = now - since;
  wake_more();
  scale(now);
  supplied_ns_ = 0;
  serve_waiters();
}

// Now the next ones may start.
void Pool::on_loaded(Instance&) {
  wake_more();
  scale(now_ns());
  serve_waiters();
}

void Pool::on_ready(Instance& instance) {
  record_.measures.start.observe(now_ns() - instance.spawned_ns());
  refused_.clear();
  host_.on_event(record_, instance.id(), "ready", "");
  serve_waiters();
}

void Pool::on_tier(Instance& instance) {
  const std::uint64_t ns = instance.arena().header().tier.build_ns.load(std::memory_order_relaxed);
  host_.on_event(record_, instance.id(), fmt::format("tier_{}", instance.tier().name()),
                 ns == 0 ? "" : fmt::format("built in {} ms", ns / 1'000'000));
}

void Pool::on_resumed(std::uint64_t ns) { record_.measures.resume.observe(ns); }

// The signature said that rows can be joined, and the deploy tried it; still this model's outputs are not row by row.
void Pool::on_batching_failed(Instance& instance) {
  if (!std::exchange(batching_off_, true))
    host_.on_event(record_, instance.id(), "batching_off", "outputs did not come row by row");
}

void Pool::on_slot_free(Instance& instance) {
  if (instance.requests() > 0) failures_ = 0;
  serve_waiters();
  if (shared_ && queue_.empty() && !urgent()) {
    shared_ = false;
    queue_.rest();
  }
}

// An instance that had answered something is replaced at once; one that had not counts as a failed start, however far
// it came. After a few of those in a row those who wait are told; but where the host makes no sandbox they wait as long
// as their time allows, for that passes.
void Pool::on_dead(Instance& instance, const std::string& cause, EndKind kind, bool was_ready) {
  auto at = std::find_if(instances_.begin(), instances_.end(), [&](const auto& i) { return i.get() == &instance; });
  const auto keep = at != instances_.end() ? *at : nullptr;
  if (keep) instances_.erase(at);
  host_.on_event(record_, instance.id(), kind == EndKind::kPlanned ? "ended" : "failed", cause);
  if (kind == EndKind::kRefused) refused_ = cause;
  if (kind != EndKind::kPlanned) {
    woken_ = 0;
    ++record_.counters.deaths;
    if (!was_ready) ++record_.counters.start_failures;
    failures_ = instance.requests() > 0 ? 0 : failures_ + 1;
    backoff_until_ns_ = failures_ == 0 ? 0 : now_ns() + policy::start_backoff_ns(failures_);
    if (kind == EndKind::kFailed && !was_ready && failures_ >= kFailuresBeforeRefusing) {
      fail_waiters(make_error(Code::kUnavailable, "instance_failed",
                              "{} instances of {} in a row did not start; the last one: {}", failures_,
                              version_->display(), cause));
    }
  }
  scale(now_ns());
  serve_waiters();
}

void Pool::fail_waiters(const Error& error) {
  while (policy::FairEntry* e = queue_.pop(0).entry) static_cast<Waiter*>(e)->granted.set(error);
}

bool Pool::urgent() const {
  return !queue_.empty() ||
         std::any_of(instances_.begin(), instances_.end(), [](const auto& i) { return i->busy() > 0; });
}

void Pool::end_all(const std::string& why) {
  for (const auto& i : std::vector(instances_)) i->end(why, EndKind::kPlanned);
}

void Pool::end_idle(const std::string& why) {
  for (const auto& i : std::vector(instances_)) {
    const bool idle = i->phase() == InstancePhase::kReady && i->busy() == 0;
    if (idle || i->phase() == InstancePhase::kParked) i->end(why, EndKind::kPlanned);
  }
}

// An instance without requests stays warm, is parked, or ends.
void Pool::settle_idle(Instance& i, const policy::Hold& held, std::uint64_t now) {
  const std::uint32_t parked = count(InstancePhase::kParked);
  if (i.phase() == InstancePhase::kParked) {
    if (retired_) return i.end("version retired", EndKind::kPlanned);
    if (parked > held.parked) i.end("no longer held parked", EndKind::kPlanned);
    return;
  }
  policy::IdleState s;
  s.busy = i.busy() > 0 || i.phase() != InstancePhase::kReady;
  s.retired = retired_;
  s.idle_since_ns = i.last_used_ns();
  s.idle_limit_ns = version_->settings.idle_ms * 1'000'000;
  s.min = held.warm;
  s.instances = count(InstancePhase::kReady);
  if (i.phase() == InstancePhase::kReady) i.measure(now);
  if (s.busy) return;
  const bool spare = !retired_ && parked < held.parked && s.instances > held.warm && queue_.empty();
  const auto d = policy::should_end(s, now);
  if (spare && (d.end || i.ahead())) {
    i.park();
    host_.on_event(record_, i.id(), "parked", held.reason);
  } else if (d.end) {
    i.end(std::string(d.reason), EndKind::kPlanned);
  }
}

void Pool::tick(std::uint64_t now) {
  while (policy::FairEntry* e = queue_.pop_expired(now)) static_cast<Waiter*>(e)->granted.set(too_late());
  if (!version_->settings.provisioned.empty())
    provisioned_ = policy::provisioned_at(version_->settings.provisioned, unix_ms() / 1000);
  const policy::Hold held = hold();
  for (const auto& i : std::vector(instances_)) {
    i->check_time(now);
    settle_idle(*i, held, now);
    record_.measures.private_bytes = std::max(record_.measures.private_bytes, i->measured_bytes());
  }
  scale(now);
  serve_waiters();
}

}  // namespace mayfly
