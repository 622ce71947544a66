// Counts what a client may send but has no reason to send much of: resets, pings, settings, priorities, window updates,
// empty DATA frames. Each kind has an allowance that refills with time; who uses it up is sent away. The limits lie far
// over what real clients do (gRPC pings with its data, browsers send priorities) and bound what a flood costs.
//
// Owner: one session. Pure: time is an argument (CLOCK_MONOTONIC, ns).
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace mayfly::http2 {

enum class Frame : std::uint8_t { kReset, kPing, kSettings, kPriority, kWindowUpdate, kEmptyData };

struct Allowance {
  const char* limit;         // its name in the log and in GOAWAY
  std::uint32_t burst;       // at once
  std::uint32_t per_second;  // afterwards
};

// In the order of Frame. Resets include those that a client's mistakes make us send.
inline constexpr std::array<Allowance, 6> kAllowances{{{"max_resets", 500, 100},
                                                       {"max_pings", 10'000, 5'000},
                                                       {"max_settings", 100, 10},
                                                       {"max_priorities", 1'000, 200},
                                                       {"max_window_updates", 10'000, 5'000},
                                                       {"max_empty_data", 500, 100}}};
inline constexpr std::uint32_t kUpdatesPerData = 10;   // window updates that each DATA frame we send allows besides
inline constexpr std::uint32_t kMaxContinuations = 8;  // frames of one header block after its first

class Guard {
 public:
  // False: the allowance of this kind is used up.
  bool allow(Frame kind, std::uint64_t now) {
    const auto k = static_cast<std::size_t>(kind);
    const Allowance& a = kAllowances[k];
    Bucket& b = buckets_[k];
    if (b.used >= a.burst) {  // refill only when it matters
      const std::uint64_t refill = (now - std::min(now, b.since)) * a.per_second / 1'000'000'000;
      if (refill > 0) {
        b.used -= static_cast<std::uint32_t>(std::min<std::uint64_t>(refill, b.used));
        b.since = now;
      }
    }
    if (b.used >= a.burst) return false;
    if (b.used++ == 0) b.since = now;
    return true;
  }
  void data_sent() {
    Bucket& b = buckets_[static_cast<std::size_t>(Frame::kWindowUpdate)];
    b.used -= std::min(b.used, kUpdatesPerData);
  }
  static const char* limit(Frame kind) { return kAllowances[static_cast<std::size_t>(kind)].limit; }

 private:
  struct Bucket {
    std::uint32_t used = 0;
    std::uint64_t since = 0;
  };
  std::array<Bucket, kAllowances.size()> buckets_{};
};

}  // namespace mayfly::http2
