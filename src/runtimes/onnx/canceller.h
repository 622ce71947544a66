// Ends a run that nobody waits for any more. The serving thread says which slot it runs; a second thread sleeps on the
// arena's `cancels` and sets the run options' terminate flag, which ONNX Runtime looks at between two nodes of the
// graph. The thread is made only once a run has taken long enough for that to be worth anything (watch()): short models
// never pay for it. Owned by the slot runner, whose thread alone calls it.
#pragma once
#include <pthread.h>

#include <atomic>
#include <mutex>

#include "runtimes/onnx/ort_api.h"
#include "worker_ipc/arena.h"

namespace mayfly {

class Canceller {
 public:
  static constexpr std::uint64_t kWorthNs = 2'000'000;  // a run that takes longer may be worth ending
  Canceller(const Ort& ort, OrtRunOptions* options, const ArenaView& arena)
      : ort_(ort), options_(options), arena_(arena) {}
  ~Canceller();
  Canceller(const Canceller&) = delete;
  Canceller& operator=(const Canceller&) = delete;

  bool begin(std::uint32_t slot);  // false: it is cancelled already, don't run it
  bool end();                      // true: the run was told to end early
  void watch();                    // from now on runs can be ended; where no thread can be made they can't

 private:
  static constexpr std::uint32_t kNone = ~0U;
  static void* run(void* self);
  void look();

  const Ort& ort_;
  OrtRunOptions* options_;
  ArenaView arena_;
  std::mutex mutex_;
  std::uint32_t current_ = kNone;
  bool terminated_ = false;
  bool tried_ = false, watching_ = false;
  std::atomic<bool> stop_{false};
  pthread_t thread_{};
};

}  // namespace mayfly
