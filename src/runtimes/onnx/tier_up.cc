#include "runtimes/onnx/tier_up.h"

#include <malloc.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <exception>

namespace mayfly {
namespace {

std::uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

void notify(int fd) {
  const std::uint64_t one = 1;
  while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

// Best effort: where the sandbox or the host refuses, the thread competes like any other. Not for a session of several
// threads: its pool would inherit the weight, which can't be raised again.
void step_back(int cpu) {
  if (cpu < 0) return;
  const sched_param none{};
  static_cast<void>(sched_setscheduler(0, SCHED_IDLE, &none));
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  static_cast<void>(sched_setaffinity(0, sizeof set, &set));
}

}  // namespace

TierUp::~TierUp() {
  if (!thread_.joinable()) return;
  phase_.wait(kNothing);
  phase_.store(kExchanged, std::memory_order_release);
  phase_.notify_all();
  thread_.join();
}

void TierUp::tell(Tier tier) {
  arena_.header().tier.tier.store(static_cast<std::uint32_t>(tier), std::memory_order_release);
  notify(done_fd_);
}

void TierUp::begin() {
  begun_ = true;
  tell(Tier::kBuilding);
  const int cpu = arena_.header().threads == 1 ? sched_getcpu() : -1;
  try {
    thread_ = std::thread([this, cpu] { build(cpu); });
  } catch (const std::exception&) {
    tell(Tier::kFailed);
  }
}

void TierUp::exchange(std::unique_ptr<LoadedModel>& model) {
  std::swap(model, other_);
  phase_.store(kExchanged, std::memory_order_release);
  phase_.notify_all();
  tell(Tier::kPacked);
}

// The first run of a session allocates its memory: done here, on zeros, a request does not pay for it.
bool TierUp::make() {
  try {
    auto made = LoadedModel::create(ort_, artefact_, {.threads = arena_.header().threads, .prepack = true}, arena_);
    if (!made.ok()) return false;
    if (!(*made)->runner->probe(1).ok() && !(*made)->runner->probe(8).ok()) return false;
    other_ = std::move(*made);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void TierUp::build(int cpu) {
  step_back(cpu);
  const std::uint64_t start = now_ns();
  if (!make()) {
    tell(Tier::kFailed);
    phase_.store(kExchanged, std::memory_order_release);
    phase_.notify_all();
    return;
  }
  arena_.header().tier.build_ns.store(now_ns() - start, std::memory_order_relaxed);
  phase_.store(kBuilt, std::memory_order_release);
  phase_.notify_all();
  notify(wake_fd_);
  phase_.wait(kBuilt);
  other_.reset();
  malloc_trim(0);
}

}  // namespace mayfly
