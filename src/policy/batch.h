// When a batch stops taking requests. Pure; times are monotonic nanoseconds.
//
// While the instance works, waiting costs nothing: it could not begin sooner. An idle instance begins at once, unless
// the owner allows a delay and requests have lately come so fast that within it at least one more is expected; never so
// late that the earliest deadline in the batch, less the time of a run, would pass.
#pragma once
#include <cstdint>
#include <string_view>

namespace mayfly::policy {

struct BatchState {
  std::uint32_t rows = 0, max_rows = 1;
  bool idle = true;  // the instance has nothing submitted
  std::uint64_t opened_ns = 0;
  std::uint64_t max_delay_ns = 0;
  std::uint64_t gap_ns = 0;  // between requests, lately; 0: not known
  std::uint64_t run_ns = 0;  // of one run, lately; 0: not known
  std::uint64_t deadline_ns = UINT64_MAX;
};
struct BatchDecision {
  bool close = false;               // begin
  bool full = false;                // … and nobody else can join
  std::uint64_t wait_until_ns = 0;  // idle, and worth waiting: begin then
  std::string_view reason;
};
BatchDecision close_batch(const BatchState& s, std::uint64_t now_ns);

}  // namespace mayfly::policy
