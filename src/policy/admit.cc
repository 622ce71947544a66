#include "policy/admit.h"

#include <algorithm>
#include <cmath>

namespace mayfly::policy {

void RunTime::observe(std::uint64_t ns) {
  const double x = std::max(1.0, static_cast<double>(ns));
  if (runs_ == 0 || (runs_ == 1 && x < mean_)) {
    mean_ = x;
    deviation_ = x / 2;
    runs_ += 1;
    return;
  }
  runs_ = 2;
  // Of runs that never differ the deviation would go to nothing, and the first other one would count for nothing.
  const double most = mean_ + 4 * std::max(deviation_, mean_ / 16);
  const double error = std::min(x, most) - mean_;
  mean_ += error / 8;
  deviation_ += (std::abs(error) - deviation_) / 4;
}

RunTime RunTime::known(std::uint64_t mean_ns, std::uint64_t deviation_ns) {
  RunTime out;
  out.mean_ = static_cast<double>(mean_ns);
  out.deviation_ = static_cast<double>(deviation_ns);
  out.runs_ = 2;
  return out;
}

std::string_view verdict_name(Verdict v) {
  switch (v) {
    case Verdict::kAdmit:
      return "admit";
    case Verdict::kDeadlinePassed:
      return "deadline_exceeded";
    case Verdict::kQueueFull:
      return "queue_full";
    case Verdict::kDeadlineUnreachable:
      return "deadline_unreachable";
  }
  return "";
}

std::uint32_t retry_after_s(std::uint64_t ns) {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  const std::uint64_t seconds = ns / kSecond + (ns % kSecond != 0 ? 1 : 0);
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(seconds, 1, kMaxRetryAfterS));
}

std::uint64_t drain_ns(const AdmitState& s, std::uint64_t work_ns) {
  const double work = static_cast<double>(work_ns);
  const double ready = s.ready_slots, starting = s.starting_slots, until = static_cast<double>(s.start_left_ns);
  if (ready + starting == 0) return 0;  // nothing works on it, and nothing can be said
  if (starting == 0 || (ready > 0 && work <= ready * until)) return static_cast<std::uint64_t>(work / ready);
  return static_cast<std::uint64_t>(until + (work - ready * until) / (ready + starting));
}

Admission admit(const AdmitState& s, std::uint64_t now_ns) {
  if (s.deadline_ns != 0 && now_ns >= s.deadline_ns) return {Verdict::kDeadlinePassed, 0, 0};
  if (s.can_start_now) return {};
  const std::uint64_t wait = drain_ns(s, s.running_left_ns + s.ahead_ns);
  if (s.queue_refuses) return {Verdict::kQueueFull, retry_after_s(wait), wait};
  if (s.run_ns == 0 || s.deadline_ns == 0) return {Verdict::kAdmit, 0, wait};
  const std::uint64_t left = s.deadline_ns - now_ns;
  if (s.running_left_ns + s.ahead_ns == 0 || wait + s.run_ns <= left) return {Verdict::kAdmit, 0, wait};
  // With as much time as now it is admitted once the wait has shrunk by what is missing, at the latest when nothing is
  // left to wait for.
  return {Verdict::kDeadlineUnreachable, retry_after_s(std::min(wait, wait + s.run_ns - left)), wait};
}

}  // namespace mayfly::policy
