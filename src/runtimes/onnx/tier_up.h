// Changes an instance from the mapped form of its model to the pre-packed one while it serves. When the server asks
// (ArenaHeader.tier.wanted), a thread makes the packed session over the same mapping and runs it once on zeros; the
// serving thread then exchanges the two between two runs; the thread gives the old one's memory back and ends.
//
// The thread has the lowest weight of its process, and the processor of the serving thread where that is all the
// instance may use: else both together would spend the time that the instance's cgroup grants, and a request would wait
// for the next period. Whatever fails leaves the instance as it was.
// Owner: the serving thread. Memory: the server asks only where the packed form fits (policy/tier.h).
#pragma once
#include <atomic>
#include <memory>
#include <thread>

#include "runtimes/onnx/loaded_model.h"

namespace mayfly {

class TierUp {
 public:
  // wake_fd: ends the serving thread's sleep; done_fd: has the server look at the arena.
  TierUp(const Ort& ort, std::span<const std::byte> artefact, const ArenaView& arena, int wake_fd, int done_fd)
      : ort_(ort), artefact_(artefact), arena_(arena), wake_fd_(wake_fd), done_fd_(done_fd) {}
  ~TierUp();
  TierUp(const TierUp&) = delete;
  TierUp& operator=(const TierUp&) = delete;

  // Between two runs: begins what the server has asked for, exchanges `model` for what is ready.
  void look(std::unique_ptr<LoadedModel>& model) {
    if (phase_.load(std::memory_order_acquire) == kBuilt) return exchange(model);
    if (!begun_ && arena_.header().tier.wanted.load(std::memory_order_relaxed) != 0) begin();
  }

 private:
  enum Phase : std::uint32_t { kNothing, kBuilt, kExchanged };
  void begin();
  void exchange(std::unique_ptr<LoadedModel>& model);
  void build(int cpu);
  bool make();
  void tell(Tier tier);

  const Ort& ort_;
  std::span<const std::byte> artefact_;
  ArenaView arena_;
  int wake_fd_, done_fd_;
  bool begun_ = false;
  std::atomic<std::uint32_t> phase_{kNothing};
  std::unique_ptr<LoadedModel> other_;  // the thread's until kBuilt and from kExchanged on
  std::thread thread_;
};

}  // namespace mayfly
