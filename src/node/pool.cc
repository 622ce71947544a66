#include "node/pool.h"

#include <algorithm>

namespace mayfly {
namespace {
constexpr std::uint64_t kPackRunNs = 200'000;         // runs shorter than this are joined on few instances
constexpr std::uint64_t kLongGapNs = 1'000'000'000;   // longer pauses say nothing more
constexpr std::uint32_t kFailuresBeforeRefusing = 3;  // starts in a row that failed: waiters are told instead of kept
}  // namespace

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

// An instance that is ready before one that is starting, then the least busy. Short runs are better run together than
// on many instances.
std::optional<Lease> Pool::try_lease(bool may_join) {
  const bool joins = may_join && version_->batch && !batching_off_;
  const bool pack = joins && run_ns_ < kPackRunNs;
  Instance* best = nullptr;
  for (const auto& i : instances_) {
    if (!i->has_place()) continue;
    if (best == nullptr) {
      best = i.get();
      continue;
    }
    const bool ready = i->phase() == InstancePhase::kReady, best_ready = best->phase() == InstancePhase::kReady;
    const bool preferred = pack ? i->has_open_batch() && !best->has_open_batch() : i->busy() < best->busy();
    if (ready == best_ready ? preferred : ready) best = i.get();
  }
  if (best == nullptr) return std::nullopt;
  return Lease(best->shared_from_this(), joins);
}

void Pool::note_arrival() {
  if (version_->settings.batch_delay_us == 0) return;
  const std::uint64_t now = now_ns();
  const std::uint64_t gap = now - std::exchange(last_arrival_ns_, now);
  gap_ns_ = gap_ns_ == 0 ? gap : (gap_ns_ * 7 + std::min(gap, kLongGapNs)) / 8;
}

void Pool::Waiter::cancel(void* self) {
  auto* w = static_cast<Waiter*>(self);
  if (w->granted.is_set()) return;
  w->pool->waiters_.remove(w);
  w->granted.set(Error{Code::kCancelled, "cancelled", "the caller went away while it waited"});
}

Task<Result<Lease>> Pool::acquire(Ask ask) {
  note_arrival();
  if (waiters_.empty()) {
    if (auto lease = try_lease(ask.may_join)) co_return std::move(*lease);
  }
  scale(now_ns(), 1);
  if (waiters_.empty()) {
    if (auto lease = try_lease(ask.may_join)) co_return std::move(*lease);
  }
  if (waiters_.size() >= version_->settings.queue) {
    co_return make_error(Code::kResourceExhausted, "queue_full",
                         "the queue of {} is full: {} requests wait; retry later or raise queue or max",
                         version_->display(), waiters_.size());
  }
  if (ask.cancel != nullptr && ask.cancel->fired()) {
    co_return Error{Code::kCancelled, "cancelled", "the caller went away before it waited"};
  }
  Waiter waiter;
  waiter.pool = this;
  waiter.ask = ask;
  waiters_.push_back(&waiter);
  const CancelScope scope(ask.cancel, &Waiter::cancel, &waiter);
  co_return co_await waiter.granted.wait();
}

void Pool::serve_waiters() {
  while (!waiters_.empty()) {
    auto lease = try_lease(waiters_.front()->ask.may_join);
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

// The signature said that rows can be joined, and the deploy tried it; still this model's outputs are not row by row.
void Pool::on_batching_failed(Instance& instance) {
  if (!std::exchange(batching_off_, true))
    observer_.on_instance_event(*version_, instance.id(), "batching_off", "outputs did not come row by row");
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

void Pool::tick(std::uint64_t now) {
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    Waiter* w = *it;
    if (now < w->ask.deadline_ns) {
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
