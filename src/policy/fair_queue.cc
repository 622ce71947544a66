#include "policy/fair_queue.h"

#include <algorithm>

namespace mayfly::policy {
namespace {

std::int64_t apart(std::uint64_t a, std::uint64_t b) { return static_cast<std::int64_t>(a - b); }
constexpr auto kMaxDebt = static_cast<std::int64_t>(kMaxCostNs);

std::uint64_t charge_of(const FairEntry& e) { return std::clamp(e.cost_ns, kMinCostNs, kMaxCostNs); }
std::uint32_t weight_of(const FairEntry& e) { return std::clamp(e.weight, 1U, kMaxWeight); }

}  // namespace

FairQueue::Flow& FairQueue::flow_of(std::uint64_t id) {
  const auto [at, is_new] = flows_.try_emplace(id);
  if (is_new) {
    at->second.id = id;
    at->second.tag = virtual_now_;
  }
  return at->second;
}

// A debt larger than any that can arise is a tag that v has long passed and wrapped around.
std::uint64_t FairQueue::tag_if_waiting(const Flow& f) const {
  const std::int64_t debt = apart(f.tag, virtual_now_);
  return debt > 0 && debt <= kMaxDebt ? f.tag : virtual_now_;
}

void FairQueue::begin_waiting(Flow& f, std::uint64_t seq) {
  if (f.in_idle) idle_remove(f);
  f.tag = tag_if_waiting(f);
  f.since = seq;
  by_tag_.push(f);
  by_load_.push(f);
}

FairEntry* FairQueue::push(FairEntry& e) {
  MAYFLY_CHECK(!e.queued_);
  Flow& f = flow_of(e.flow);
  e.queued_ = true;
  e.seq_ = ++seq_;
  e.level_ = priority_level(e.priority);
  e.charged_ns_ = charge_of(e);
  e.virtual_cost_ = e.charged_ns_ / weight_of(e);
  e.latest_start_ns_ = e.latest_start();
  f.weight = weight_of(e);
  if (f.entries.empty()) begin_waiting(f, e.seq_);
  f.entries.push(e);
  e.newer_ = nullptr;
  e.older_ = std::exchange(f.newest[e.level_], &e);
  if (e.older_ != nullptr) e.older_->newer_ = &e;
  f.cost_ns[e.level_] += e.charged_ns_;
  f.load += e.virtual_cost_;
  by_load_.moved(f);
  by_expiry_.push(e);
  total_cost_ns_ += e.charged_ns_;
  return size() > max_entries_ ? shed() : nullptr;
}

void FairQueue::take_out(FairEntry& e) {
  Flow& f = flows_.find(e.flow)->second;
  f.entries.remove(e);
  by_expiry_.remove(e);
  if (e.newer_ != nullptr)
    e.newer_->older_ = e.older_;
  else
    f.newest[e.level_] = e.older_;
  if (e.older_ != nullptr) e.older_->newer_ = e.newer_;
  e.older_ = e.newer_ = nullptr;
  e.queued_ = false;
  f.cost_ns[e.level_] -= e.charged_ns_;
  f.load -= e.virtual_cost_;
  total_cost_ns_ -= e.charged_ns_;
  if (!f.entries.empty()) {
    by_tag_.moved(f);
    by_load_.moved(f);
    return;
  }
  by_tag_.remove(f);
  by_load_.remove(f);
  idle_push(f);
}

FairQueue::Next FairQueue::pop(std::uint64_t now_ns) {
  if (FairEntry* late = pop_expired(now_ns)) return {late, true};
  if (by_tag_.empty()) return {};
  Flow& f = by_tag_.top();
  FairEntry& e = f.entries.top();
  virtual_now_ = f.tag;
  f.tag += e.virtual_cost_;
  if (apart(f.tag, last_finish_) > 0) last_finish_ = f.tag;
  take_out(e);
  return {&e, false};
}

FairEntry* FairQueue::pop_expired(std::uint64_t now_ns) {
  if (by_expiry_.empty() || now_ns <= by_expiry_.top().latest_start_ns_) return nullptr;
  FairEntry& e = by_expiry_.top();
  take_out(e);
  return &e;
}

void FairQueue::remove(FairEntry& e) {
  MAYFLY_CHECK(e.queued_);
  take_out(e);
}

FairEntry* FairQueue::shed() {
  Flow& f = by_load_.top();
  FairEntry* victim = nullptr;
  for (std::size_t level = kPriorityLevels; victim == nullptr; --level) victim = f.newest[level];
  take_out(*victim);
  return victim;
}

bool FairQueue::refuses(const FairEntry& e) const {
  if (size() < max_entries_) return false;
  const std::uint64_t added = charge_of(e) / weight_of(e);
  const auto at = flows_.find(e.flow);
  const Flow* f = at != flows_.end() && !at->second.entries.empty() ? &at->second : nullptr;
  if (!by_load_.empty() && &by_load_.top() != f) {
    const std::uint64_t load = (f != nullptr ? f->load : 0) + added;
    const Flow& heaviest = by_load_.top();
    // Of two that weigh the same, the one that began to wait later gives way.
    if (load < heaviest.load || (load == heaviest.load && f != nullptr && f->since < heaviest.since)) return false;
  }
  if (f == nullptr) return true;
  for (std::size_t level = kPriorityLevels; level > priority_level(e.priority); --level) {
    if (f->newest[level] != nullptr) return false;  // one of its own gives way
  }
  return true;
}

void FairQueue::settle(std::uint64_t flow, std::uint64_t charged_ns, std::uint64_t actual_ns) {
  const auto at = flows_.find(flow);
  if (at == flows_.end()) return;
  Flow& f = at->second;
  const auto charged = static_cast<std::int64_t>(std::clamp(charged_ns, kMinCostNs, kMaxCostNs));
  const auto actual = static_cast<std::int64_t>(std::clamp(actual_ns, kMinCostNs, kMaxCostNs));
  const std::int64_t debt = apart(f.tag, virtual_now_) + (actual - charged) / f.weight;
  if (debt > 2 * kMaxDebt || debt < -2 * kMaxDebt) return;  // a tag long passed: nothing is owed
  const bool waits = !f.entries.empty();
  f.tag = virtual_now_ + static_cast<std::uint64_t>(std::clamp(debt, waits ? 0 : -2 * kMaxDebt, kMaxDebt));
  if (apart(f.tag, last_finish_) > 0) last_finish_ = f.tag;
  if (waits) by_tag_.moved(f);
}

void FairQueue::rest() {
  if (empty()) virtual_now_ = last_finish_;
}

std::size_t FairQueue::size_of(std::uint64_t flow) const {
  const auto at = flows_.find(flow);
  return at == flows_.end() ? 0 : at->second.entries.size();
}

// What the flows other than `own` have served when one that waits with `tag` is next.
double FairQueue::others_ahead_ns(const Flow* own, std::uint64_t tag) const {
  double work = 0;
  std::size_t visited = 0;
  by_tag_.visit([&](const Flow& g) {
    if (apart(g.tag, tag) > 0 || visited == kMaxVisited) return false;
    ++visited;
    if (&g == own) return true;
    const double all = static_cast<double>(g.load) * g.weight;
    const double meanwhile = static_cast<double>(tag - g.tag) * g.weight;
    work += std::min(all, meanwhile + static_cast<double>(g.entries.top().charged_ns_));
    return true;
  });
  return visited < kMaxVisited ? work : work * static_cast<double>(by_tag_.size()) / kMaxVisited;
}

std::uint64_t FairQueue::cost_ahead_ns(const FairEntry& e) const {
  const auto at = flows_.find(e.flow);
  const Flow* f = at != flows_.end() ? &at->second : nullptr;
  std::uint64_t own = 0;
  for (std::size_t level = 1; f != nullptr && level <= priority_level(e.priority); ++level) own += f->cost_ns[level];
  const std::uint64_t first = f != nullptr ? tag_if_waiting(*f) : virtual_now_;
  const double ahead = static_cast<double>(own) + others_ahead_ns(f, first + own / weight_of(e));
  return ahead < static_cast<double>(total_cost_ns_) ? static_cast<std::uint64_t>(ahead) : total_cost_ns_;
}

void FairQueue::idle_push(Flow& f) {
  f.in_idle = true;
  f.idle_after = nullptr;
  f.idle_before = std::exchange(idle_newest_, &f);
  (f.idle_before != nullptr ? f.idle_before->idle_after : idle_oldest_) = &f;
  if (++idle_count_ <= kMaxIdleFlows) return;
  Flow& oldest = *idle_oldest_;
  idle_remove(oldest);
  flows_.erase(oldest.id);
}

void FairQueue::idle_remove(Flow& f) {
  f.in_idle = false;
  (f.idle_before != nullptr ? f.idle_before->idle_after : idle_oldest_) = f.idle_after;
  (f.idle_after != nullptr ? f.idle_after->idle_before : idle_newest_) = f.idle_before;
  f.idle_before = f.idle_after = nullptr;
  --idle_count_;
}

}  // namespace mayfly::policy
