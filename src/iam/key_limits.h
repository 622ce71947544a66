// What one key may use: requests a second, requests under way, its weight in queues; and the live state that enforces
// it. One reactor. The ring (keys.h) owns each KeyState for as long as it lives itself, also after the key was revoked,
// so that a request may hold a plain pointer to it. A key without limits costs a request two additions and no memory.
#pragma once
#include <cstdint>
#include <utility>

#include "base/result.h"
#include "policy/admit.h"
#include "policy/rate.h"
#include "store/store.h"

namespace mayfly {

inline constexpr std::uint32_t kMaxKeyConcurrency = 100'000;

// kInvalidArgument "invalid_limit" with the bounds: rate 0.001 … 1,000,000, burst 1 … 1,000,000 and only with a rate,
// concurrency 1 … 100,000, weight 1 … 100; 0 means none for all but the weight.
Status check_limits(const KeyLimits& limits);
std::uint32_t burst_of(const KeyLimits& limits);  // the one in force: of one second, at least 1, where none is given

struct KeyState {
  KeyRow row;
  std::uint32_t scopes = 0;  // bits of Scope
  std::uint64_t flow = 0;    // its number in fair queues, 1, 2, …; 0 stands for callers without a key
  policy::RateLimit rate;
  policy::RunTime held;  // how long a request was under way, while its number is limited
  std::uint32_t under_way = 0;

  void limit(const KeyLimits& limits, std::uint64_t now_ns);  // requests under way go on
};

// One request of a key while it is under way. Move-only; what it counts ends with it.
class KeyUse {
 public:
  KeyUse() = default;
  KeyUse(KeyUse&& o) noexcept : key_(std::exchange(o.key_, nullptr)), since_ns_(std::exchange(o.since_ns_, 0)) {}
  KeyUse& operator=(KeyUse&& o) noexcept;
  ~KeyUse() { release(); }
  // Begins a request of `key` (null: a caller without a key, who has no limits). Errors: "concurrency_limited", which
  // takes nothing of the rate, and "rate_limited", each with retry_after_s.
  static Result<KeyUse> begin(KeyState* key, std::uint64_t now_ns);
  bool timed() const { return since_ns_ != 0; }  // end() uses the time that it is given
  void end(std::uint64_t now_ns);
  // What it took of the key's rate; for a request that nothing was done for. Once.
  void give_back();

 private:
  explicit KeyUse(KeyState* key, std::uint64_t since_ns) : key_(key), since_ns_(since_ns) {}
  void release();
  KeyState* key_ = nullptr;
  std::uint64_t since_ns_ = 0;
};

}  // namespace mayfly
