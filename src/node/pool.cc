#include "node/pool.h"

#include <algorithm>

namespace mayfly {
namespace {
constexpr std::uint32_t kFailuresBeforeRefusing = 3;  // starts in a row that failed: waiters are told instead of kept
}

Lease& Lease::operator=(Lease&& o) noexcept {
  if (this != &o) {
    release();
    instance_ = std::move(o.instance_);
    slot_ = o.slot_;
    cold_ = o.cold_;
    bytes_used_ = o.bytes_used_;
    abandoned_ = o.abandoned_;
  }
  return *this;
}

void Lease::release() {
  if (!instance_) return;
  auto instance = std::exchange(instance_, nullptr);
  if (!abandoned_) instance->return_slot(slot_, bytes_used_);
}

Task<CallOutcome> Lease::run(const SlotRequest& request, SlotResult& result, std::uint64_t deadline_ns) {
  bytes_used_ = used_bytes(request);
  if (instance_->phase() == InstancePhase::kEnding || instance_->phase() == InstancePhase::kDead) {
    co_return CallOutcome{make_error(Code::kUnavailable, "instance_lost", "the instance ended before it was asked"),
                          true};
  }
  Call call;
  call.result = &result;
  call.deadline_ns = deadline_ns;
  instance_->submit(slot_, request, &call);
  CallOutcome outcome = co_await call.done.wait();
  // Past its deadline the instance still works on the slot; it comes back when it completes.
  abandoned_ = !outcome.status.ok() && outcome.status.error().code == Code::kDeadlineExceeded;
  co_return outcome;
}

policy::PoolState Pool::state() const {
  policy::PoolState s;
  s.min = min_instances();
  s.max = version_->settings.max_instances;
  s.concurrency = std::min(version_->settings.concurrency, kMaxSlots);
  s.waiting = waiting();
  s.backoff_until_ns = backoff_until_ns_;
  for (const auto& i : instances_) {
    if (i->phase() == InstancePhase::kStarting)
      ++s.starting;
    else if (i->phase() == InstancePhase::kReady)
      ++s.ready;
    else
      continue;
    s.busy_slots += i->busy();
  }
  return s;
}

std::optional<Lease> Pool::try_lease() {
  Instance* best = nullptr;
  for (const auto& i : instances_) {  // the least busy ready one, else one that is starting
    if (!i->has_free_slot()) continue;
    const bool better = best == nullptr ||
                        (i->phase() == InstancePhase::kReady && best->phase() == InstancePhase::kStarting) ||
                        (i->phase() == best->phase() && i->busy() < best->busy());
    if (better) best = i.get();
  }
  if (best == nullptr) return std::nullopt;
  return Lease(best->shared_from_this(), *best->take_slot(), best->phase() == InstancePhase::kStarting);
}

Task<Result<Lease>> Pool::acquire(std::uint64_t deadline_ns) {
  if (waiters_.empty()) {
    if (auto lease = try_lease()) co_return std::move(*lease);
  }
  scale(now_ns(), 1);
  if (waiters_.empty()) {
    if (auto lease = try_lease()) co_return std::move(*lease);
  }
  if (waiters_.size() >= version_->settings.queue) {
    co_return make_error(Code::kResourceExhausted, "queue_full",
                         "the queue of {} is full: {} requests wait; retry later or raise queue or max",
                         version_->display(), waiters_.size());
  }
  Waiter waiter;
  waiter.deadline_ns = deadline_ns;
  waiters_.push_back(&waiter);
  co_return co_await waiter.granted.wait();
}

void Pool::serve_waiters() {
  while (!waiters_.empty()) {
    auto lease = try_lease();
    if (!lease) return;
    Waiter* w = waiters_.front();
    waiters_.pop_front();
    w->granted.set(std::move(*lease));
  }
}

void Pool::wake() {
  if (instances_.empty() && now_ns() >= backoff_until_ns_) start_one();
}

// arriving: requests that are about to wait.
void Pool::scale(std::uint64_t now, std::uint32_t arriving) {
  if (closed_) return;
  policy::PoolState s = state();
  s.waiting += arriving;
  const auto decision = policy::scale_up(s, now);
  for (std::uint32_t i = 0; i < decision.start; ++i) {
    if (!start_one()) return;
  }
}

bool Pool::start_one() {
  ++counters_.starts;
  auto instance = Instance::start(executor_, launcher_, version_, *this);
  if (!instance.ok()) {
    ++counters_.start_failures;
    ++failures_;
    backoff_until_ns_ = now_ns() + policy::start_backoff_ns(failures_);
    if (instances_.empty()) {  // else those that live will serve them
      fail_waiters(make_error(Code::kUnavailable, "instance_lost", "cannot start an instance of {}: {}",
                              version_->display(), instance.error().message));
    }
    return false;
  }
  instances_.push_back(std::move(*instance));
  return true;
}

void Pool::on_ready(Instance& instance) {
  observer_.on_instance_event(*version_, instance.id(), "ready", "");
  serve_waiters();
}

void Pool::on_slot_free(Instance& instance) {
  if (instance.requests() > 0) failures_ = 0;
  serve_waiters();
}

// An instance that had answered something is replaced at once; one that had not counts as a failed start, however far
// it came.
void Pool::on_dead(Instance& instance, const std::string& cause, EndKind kind, bool was_ready) {
  auto at = std::find_if(instances_.begin(), instances_.end(), [&](const auto& i) { return i.get() == &instance; });
  const auto keep = at != instances_.end() ? *at : nullptr;
  if (keep) instances_.erase(at);
  observer_.on_instance_event(*version_, instance.id(), kind == EndKind::kPlanned ? "ended" : "failed", cause);
  if (kind == EndKind::kFailed) {
    ++counters_.deaths;
    if (!was_ready) ++counters_.start_failures;
    failures_ = instance.requests() > 0 ? 0 : failures_ + 1;
    backoff_until_ns_ = failures_ == 0 ? 0 : now_ns() + policy::start_backoff_ns(failures_);
    if (!was_ready && failures_ >= kFailuresBeforeRefusing) {
      fail_waiters(make_error(Code::kUnavailable, "instance_failed",
                              "{} instances of {} in a row did not start; the last one: {}", failures_,
                              version_->display(), cause));
    }
  }
  scale(now_ns());
  serve_waiters();
}

void Pool::fail_waiters(const Error& error) {
  for (Waiter* w : std::exchange(waiters_, {})) w->granted.set(error);
}

bool Pool::urgent() const {
  return !waiters_.empty() ||
         std::any_of(instances_.begin(), instances_.end(), [](const auto& i) { return i->busy() > 0; });
}

void Pool::end_all(const std::string& why) {
  for (const auto& i : std::vector(instances_)) i->end(why, EndKind::kPlanned);
}

void Pool::end_idle(const std::string& why) {
  for (const auto& i : std::vector(instances_)) {
    if (i->phase() == InstancePhase::kReady && i->busy() == 0) i->end(why, EndKind::kPlanned);
  }
}

void Pool::tick(std::uint64_t now) {
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    Waiter* w = *it;
    if (now < w->deadline_ns) {
      ++it;
      continue;
    }
    it = waiters_.erase(it);
    w->granted.set(make_error(Code::kDeadlineExceeded, "deadline_exceeded",
                              "no instance of {} was free within the deadline", version_->display()));
  }
  for (const auto& i : std::vector(instances_)) {
    i->check_time(now);
    policy::IdleState s;
    s.busy = i->busy() > 0 || i->phase() != InstancePhase::kReady;
    s.retired = retired_;
    s.idle_since_ns = i->last_used_ns();
    s.idle_limit_ns = version_->settings.idle_ms * 1'000'000;
    s.min = min_instances();
    s.instances = static_cast<std::uint32_t>(std::count_if(
        instances_.begin(), instances_.end(), [](const auto& x) { return x->phase() == InstancePhase::kReady; }));
    if (const auto d = policy::should_end(s, now); d.end) i->end(std::string(d.reason), EndKind::kPlanned);
  }
  scale(now);
  serve_waiters();
}

}  // namespace mayfly
