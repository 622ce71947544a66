// Whether a request is worth queueing: predicts from measured run times when it would start, and refuses at once what
// can't be done before its deadline, with the time after which asking again makes sense. Pure functions and values;
// times are monotonic nanoseconds.
//
// A refusal is for a backlog only: what could start now is admitted unless its deadline has passed, and where nothing
// was measured yet everything is. So a wrong prediction corrects itself: the next request that finds a free slot is
// measured.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace mayfly::policy {

// Run time of one version's requests: moving mean and mean deviation, with the gains of TCP's round-trip estimator
// (Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988, appendix A: 1/8 and 1/4). The first run, which also
// warms caches up, counts only until there is a second that is faster. An outlier counts as at most four deviations, so
// that one slow run moves little, while a lasting change of a hundred times is followed within about twenty runs.
class RunTime {
 public:
  static RunTime known(std::uint64_t mean_ns, std::uint64_t deviation_ns);  // as measured by another one
  void observe(std::uint64_t ns);
  bool measured() const { return runs_ > 0; }
  std::uint64_t mean_ns() const { return static_cast<std::uint64_t>(mean_); }  // 0: not measured
  std::uint64_t deviation_ns() const { return static_cast<std::uint64_t>(deviation_); }
  // What most runs stay below: mean + 2 deviations. For deadlines; queues are charged the mean.
  std::uint64_t high_ns() const { return static_cast<std::uint64_t>(mean_ + 2 * deviation_); }

 private:
  double mean_ = 0, deviation_ = 0;
  std::uint32_t runs_ = 0;  // counts to 2
};

// How late a reactor is: the most of late, forgotten by half in 44 observations. Not a mean: deadlines are missed by
// the turns that take long.
class Lateness {
 public:
  void observe(std::uint64_t ns) { ns_ = ns > ns_ - ns_ / 64 ? ns : ns_ - ns_ / 64; }
  std::uint64_t ns() const { return ns_; }

 private:
  std::uint64_t ns_ = 0;
};

// Of the time that is left at `now`, what is kept for the answer's way to its caller.
constexpr std::uint64_t reserve_ns(std::uint64_t deadline_ns, std::uint64_t now_ns) {
  constexpr std::uint64_t kPart = 128, kMost = 2'000'000;
  const std::uint64_t part = deadline_ns > now_ns ? (deadline_ns - now_ns) / kPart : 0;
  return part < kMost ? part : kMost;
}

struct AdmitState {
  std::uint64_t deadline_ns = 0;  // of the request; 0: none
  std::uint64_t run_ns = 0;       // its predicted run time (RunTime::high_ns); 0: not measured
  // Capacity: slots of ready instances, busy or not, and of those that are starting or about to.
  std::uint32_t ready_slots = 0, starting_slots = 0;
  bool can_start_now = false;       // a slot is free and nobody waits for it
  std::uint64_t start_left_ns = 0;  // until the starting ones are ready, as predicted; 0: not known
  // Backlog, in nanoseconds of run time summed over all slots.
  std::uint64_t running_left_ns = 0;  // what the running requests still need
  std::uint64_t ahead_ns = 0;         // what is queued and served before this one: FairQueue::cost_ahead_ns
  bool queue_refuses = false;         // FairQueue::refuses
};

enum class Verdict : std::uint8_t {
  kAdmit,
  kDeadlinePassed,       // "deadline_exceeded", 504: there is no time left, whatever the load
  kQueueFull,            // "queue_full", 429: its flow has the most in a queue that is full
  kDeadlineUnreachable,  // "deadline_unreachable", 503: the version is too busy for this deadline; another node may not
                         // be
};
std::string_view verdict_name(Verdict v);  // the reason of the error

struct Admission {
  Verdict verdict = Verdict::kAdmit;
  std::uint32_t retry_after_s = 0;  // of a refusal for load, 1 … kMaxRetryAfterS
  std::uint64_t wait_ns = 0;        // until it would start, as predicted
};
inline constexpr std::uint32_t kMaxRetryAfterS = 3600;

Admission admit(const AdmitState& s, std::uint64_t now_ns);

// Until `work_ns` of run time are done and a slot is free: all ready slots work at once, the starting ones join in.
std::uint64_t drain_ns(const AdmitState& s, std::uint64_t work_ns);

// Whole seconds for the header Retry-After: rounded up, 1 … kMaxRetryAfterS.
std::uint32_t retry_after_s(std::uint64_t ns);

}  // namespace mayfly::policy
