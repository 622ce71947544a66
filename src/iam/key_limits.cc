#include "iam/key_limits.h"

#include <algorithm>
#include <cmath>

#include "policy/fair_queue.h"

namespace mayfly {

Status check_limits(const KeyLimits& l) {
  if (l.rate != 0 && !(l.rate >= policy::kMinRate && l.rate <= policy::kMaxRate)) {
    return invalid("invalid_limit", "rate is {} requests a second; possible are {} to {}, or 0 for none", l.rate,
                   policy::kMinRate, policy::kMaxRate);
  }
  if (l.burst > policy::kMaxBurst) {
    return invalid("invalid_limit", "burst is {}; possible are 1 to {}, or 0 for as many as a second brings", l.burst,
                   policy::kMaxBurst);
  }
  if (l.burst != 0 && l.rate == 0) {
    return invalid("invalid_limit", "burst is {} without a rate; give rate as well, or burst 0", l.burst);
  }
  if (l.concurrency > kMaxKeyConcurrency) {
    return invalid("invalid_limit", "concurrency is {}; possible are 1 to {}, or 0 for none", l.concurrency,
                   kMaxKeyConcurrency);
  }
  if (l.weight < 1 || l.weight > policy::kMaxWeight) {
    return invalid("invalid_limit", "weight is {}; possible are 1 to {}", l.weight, policy::kMaxWeight);
  }
  return Ok{};
}

std::uint32_t burst_of(const KeyLimits& l) {
  if (l.rate == 0) return 0;
  if (l.burst != 0) return l.burst;
  return static_cast<std::uint32_t>(std::clamp(std::ceil(l.rate), 1.0, static_cast<double>(policy::kMaxBurst)));
}

void KeyState::limit(const KeyLimits& limits, std::uint64_t now_ns) {
  row.limits = limits;
  rate = limits.rate == 0 ? policy::RateLimit() : rate.changed(limits.rate, burst_of(limits), now_ns);
}

KeyUse& KeyUse::operator=(KeyUse&& o) noexcept {
  if (this != &o) {
    release();
    key_ = std::exchange(o.key_, nullptr);
    since_ns_ = std::exchange(o.since_ns_, 0);
  }
  return *this;
}

Result<KeyUse> KeyUse::begin(KeyState* key, std::uint64_t now_ns) {
  if (key == nullptr) return KeyUse();
  const KeyLimits& limits = key->row.limits;
  if (limits.concurrency != 0 && key->under_way >= limits.concurrency) {
    Error e = make_error(Code::kResourceExhausted, "concurrency_limited",
                         "{} requests of key \"{}\" ({}) are under way, and its concurrency is {}; retry when one is "
                         "answered, or raise it with `mayfly keys limit {} --concurrency N`",
                         key->under_way, key->row.name, key->row.id, limits.concurrency, key->row.id);
    // One of those under way ends about that often.
    e.retry_after_s = policy::retry_after_s(key->held.mean_ns() / limits.concurrency);
    return e;
  }
  if (const std::uint64_t wait_ns = key->rate.try_take(now_ns); wait_ns != 0) {
    Error e = make_error(Code::kResourceExhausted, "rate_limited",
                         "key \"{}\" ({}) may ask {:g} times a second, {} at once; retry later, or raise it with "
                         "`mayfly keys limit {} --rate N`",
                         key->row.name, key->row.id, limits.rate, burst_of(limits), key->row.id);
    e.retry_after_s = policy::retry_after_s(wait_ns);
    return e;
  }
  ++key->under_way;
  return KeyUse(key, limits.concurrency != 0 ? now_ns : 0);
}

void KeyUse::end(std::uint64_t now_ns) {
  if (timed() && now_ns > since_ns_) key_->held.observe(now_ns - since_ns_);
  release();
}

void KeyUse::give_back() {
  if (key_ != nullptr) key_->rate.give_back();
}

void KeyUse::release() {
  if (key_ != nullptr) --key_->under_way;
  key_ = nullptr;
  since_ns_ = 0;
}

}  // namespace mayfly
