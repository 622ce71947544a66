// A rate limit: `per_second` on average, `burst` at once. The generic cell rate algorithm (ITU-T I.371, annex A,
// virtual scheduling), which is a token bucket kept as one time stamp. In any t seconds at most burst + per_second · t
// are let through. A value; pure; times are monotonic nanoseconds and never go back.
#pragma once
#include <cstdint>

namespace mayfly::policy {

inline constexpr double kMinRate = 0.001, kMaxRate = 1e6;  // per second
inline constexpr std::uint32_t kMaxBurst = 1'000'000;

class RateLimit {
 public:
  RateLimit() = default;  // lets everything through
  RateLimit(double per_second, std::uint32_t burst);
  bool limits() const { return interval_ns_ != 0; }
  // 0: taken. Otherwise nothing was, and something will be free after that many nanoseconds.
  std::uint64_t try_take(std::uint64_t now_ns);
  // What the last try_take() took.
  void give_back() { due_ns_ -= due_ns_ < interval_ns_ ? due_ns_ : interval_ns_; }
  // The limit that follows this one when its numbers change: what was used of the burst stays used.
  RateLimit changed(double per_second, std::uint32_t burst, std::uint64_t now_ns) const;

 private:
  std::uint64_t interval_ns_ = 0;   // 1 / per_second, rounded up
  std::uint64_t tolerance_ns_ = 0;  // (burst - 1) intervals
  std::uint64_t due_ns_ = 0;        // when the next one is due at a steady rate
};

}  // namespace mayfly::policy
