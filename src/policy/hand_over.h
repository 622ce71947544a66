// Whether the server waits awake for the other side of a hand-over to an instance. A wake-up of a process on another
// processor takes 5 to 20 microseconds, longer than a small model runs; two of them are most of what a lone request
// costs. So where requests come one at a time, the instance is woken before its request has been read (wake_early), and
// the server looks for the completion for a moment before it sleeps (wait_awake). Each is a gamble that is given up
// where it does not pay. Pure: no clock; times are monotonic nanoseconds. One reactor; an idle server does nothing of
// it.
#pragma once
#include <cstdint>

namespace mayfly::policy {

// Something that pays only where it is often won: after a loss the next 1, 2, 4 … chances are let go.
class Gamble {
 public:
  static constexpr std::uint32_t kMaxLetGo = 1024;
  bool take() {
    if (let_go_ == 0) return true;
    --let_go_;
    return false;
  }
  void won() { after_loss_ = 1; }
  void lost() {
    let_go_ = after_loss_;
    if (after_loss_ < kMaxLetGo) after_loss_ *= 2;
  }

 private:
  std::uint32_t let_go_ = 0, after_loss_ = 1;
};

class HandOver {
 public:
  static constexpr std::uint64_t kAwakeNs = 30'000;       // the server looks for a completion, at most
  static constexpr std::uint64_t kMaxRunNs = 15'000;      // of a run inside the runtime that ends within it
  static constexpr std::uint64_t kBusyGapNs = 40'000;     // submissions closer than this: the reactor has other work
  static constexpr std::uint64_t kLongGapNs = 1'000'000;  // longer pauses say nothing more

  static constexpr double kMaxJoined = 3;  // where more are, they come many at a time

  explicit HandOver(bool several_processors) : possible_(several_processors) {}

  void submitted(std::uint64_t now_ns, std::uint32_t requests);  // of one run
  void completed(std::uint32_t runs = 1) { under_way_ -= runs; }
  std::uint32_t under_way() const { return under_way_; }

  // run_ns: what the run takes inside the runtime, as measured; 0: not known, and then neither is tried.
  bool wait_awake(std::uint64_t run_ns) { return lone(1, run_ns) && awake_.take(); }
  bool wake_early(std::uint64_t run_ns) { return lone(0, run_ns) && early_.take(); }
  void waited(bool won) { won ? awake_.won() : awake_.lost(); }
  void woken(bool won) { won ? early_.won() : early_.lost(); }

 private:
  bool lone(std::uint32_t under_way, std::uint64_t run_ns) const {
    return possible_ && under_way_ == under_way && run_ns != 0 && run_ns <= kMaxRunNs && gap_ns_ >= kBusyGapNs &&
           joined_ <= kMaxJoined;
  }
  bool possible_;
  std::uint32_t under_way_ = 0;  // runs handed over, of all instances
  std::uint64_t last_ns_ = 0, gap_ns_ = kLongGapNs;
  double joined_ = 1;  // requests in a run
  Gamble awake_, early_;
};

}  // namespace mayfly::policy
