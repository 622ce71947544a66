// The life of an instance: map, load, then serve the arena until SIGKILL. One thread, the
// runtime's own and that of a change of tier apart.
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>

#include "base/fd.h"
#include "base/processors.h"
#include "runtimes/onnx/loaded_model.h"
#include "runtimes/onnx/ort_api.h"
#include "runtimes/onnx/prefault.h"
#include "runtimes/onnx/slot_runner.h"
#include "runtimes/onnx/tier_up.h"

namespace mayfly {
namespace {

// Waiting awake this long costs less than the 7 to 40 microseconds of a wake-up, and catches a caller that asks again
// at once. 20 us caught no more (gaps between batches are longer) and cost 3 us of CPU per request at 16 connections
// and 17 us at one.
constexpr std::uint64_t kSpinNs = 4'000;
// Woken while its request is still being read by the server: until it is submitted.
constexpr std::uint64_t kExpectNs = 40'000;

std::uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

void wake(int fd) {
  const std::uint64_t one = 1;
  while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

std::optional<std::uint32_t> pop_awake(Ring& ring, std::uint64_t spin_ns) {
  const auto slot = ring_pop(ring);
  if (slot || spin_ns == 0 || !ring_wait_awake(ring, spin_ns)) return slot;
  return ring_pop(ring);
}

// Returns only if the server broke the arena's contract, or the wake descriptor failed.
int serve_ring(const InstanceArgs& args, std::unique_ptr<LoadedModel>& model, TierUp& tier) {
  ArenaHeader& header = args.arena.header();
  const std::uint64_t usual = several_processors() ? kSpinNs : 0;
  std::uint64_t spin = usual;
  for (;;) {
    const auto slot = pop_awake(header.submitted, std::exchange(spin, usual));
    tier.look(model);
    if (!slot) {
      if (!ring_prepare_sleep(header.submitted)) continue;
      std::uint64_t count = 0;
      if (read(args.wake_fd, &count, sizeof count) < 0 && errno != EINTR) return 2;
      if (usual != 0 && count >= kWakeForLater) spin = kExpectNs;
      continue;
    }
    if (*slot >= args.arena.geometry().slot_count) return 3;
    model->runner->serve(*slot);
    if (ring_push(header.completed, *slot)) wake(args.done_fd);
  }
}

// Tells the server, whose sleeping flag may not be set yet.
int fail(const InstanceArgs& args, const std::string& text) {
  ArenaHeader& header = args.arena.header();
  std::snprintf(header.error_text, kMaxErrorText, "%s", text.c_str());
  header.state.store(static_cast<std::uint32_t>(InstanceState::kFailed), std::memory_order_release);
  wake(args.done_fd);
  return 1;
}

int start_and_serve(const InstanceArgs& args) {
  ArenaHeader& header = args.arena.header();
  void* p = mmap(nullptr, args.artefact_bytes, PROT_READ, MAP_SHARED, args.artefact_fd, 0);
  if (p == MAP_FAILED) {
    return fail(args, fmt::format("can't map the artefact of {} bytes: {}", args.artefact_bytes, std::strerror(errno)));
  }
  const Mapping artefact(p, args.artefact_bytes);
  header.mapped_ns = now_ns();
  const std::span bytes(static_cast<const std::byte*>(p), artefact.size());
  // From disk the server reads what is needed: touching all would read the rest too, and first.
  const Prefault prefault(header.on_disk != 0 ? bytes.first(0) : bytes, header.heap_bytes);
  const Ort& ort = ort_of(*args.runtime);
  auto model = LoadedModel::create(ort, bytes, {.threads = header.threads}, args.arena);
  if (!model.ok()) return fail(args, model.error().message);
  header.session_ns = now_ns();
  header.state.store(static_cast<std::uint32_t>(InstanceState::kReady), std::memory_order_release);
  wake(args.done_fd);
  TierUp tier(ort, bytes, args.arena, args.wake_fd, args.done_fd);
  return serve_ring(args, *model, tier);
}

}  // namespace

int run_instance(const InstanceArgs& args) {
  try {
    return start_and_serve(args);
  } catch (const std::exception& e) {
    return fail(args, fmt::format("can't start the instance: {}", e.what()));
  }
}

}  // namespace mayfly
