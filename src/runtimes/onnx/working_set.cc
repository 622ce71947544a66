#include "runtimes/onnx/working_set.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/fd.h"
#include "runtimes/onnx/loaded_model.h"

namespace mayfly {
namespace {

struct Trace {
  std::byte* base = nullptr;
  std::uint64_t bytes = 0, block = 0;
  std::vector<unsigned char> touched;
};
Trace* g_trace = nullptr;  // a signal handler takes no argument of ours

void on_fault(int, siginfo_t* info, void*) {
  const auto* at = static_cast<std::byte*>(info->si_addr);
  if (g_trace != nullptr && at >= g_trace->base && at < g_trace->base + g_trace->bytes) {
    const std::uint64_t i = static_cast<std::uint64_t>(at - g_trace->base) / g_trace->block;
    const std::uint64_t from = i * g_trace->block;
    g_trace->touched[i] = 1;
    if (mprotect(g_trace->base + from, std::min(g_trace->block, g_trace->bytes - from), PROT_READ) == 0) return;
  }
  signal(SIGSEGV, SIG_DFL);  // the access is done again, and ends the process
}

// While it lives, faults are traced.
class Tracing {
 public:
  explicit Tracing(Trace& trace) {
    g_trace = &trace;
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before_);
  }
  ~Tracing() {
    sigaction(SIGSEGV, &before_, nullptr);
    g_trace = nullptr;
  }
  Tracing(const Tracing&) = delete;
  Tracing& operator=(const Tracing&) = delete;

 private:
  struct sigaction before_{};
};

}  // namespace

std::vector<ByteRange> join_blocks(const std::vector<bool>& touched, std::uint64_t block, std::uint64_t bytes) {
  for (std::uint64_t gap = 2;; gap *= 2) {
    std::vector<ByteRange> out;
    for (std::uint64_t i = 0; i < touched.size(); ++i) {
      if (!touched[i]) continue;
      const std::uint64_t from = i * block, end = std::min(bytes, from + block);
      if (!out.empty() && from <= out.back().offset + out.back().bytes + gap * block)
        out.back().bytes = end - out.back().offset;
      else
        out.push_back({from, end - from});
    }
    if (out.size() <= kMaxWorkingRanges) return out;
  }
}

std::vector<ByteRange> trace_working_set(const Ort& ort, int artefact_fd, std::uint64_t bytes, std::int64_t free_dim) {
  Trace trace;
  trace.bytes = bytes;
  for (trace.block = kWorkingBlock; bytes / trace.block >= kMaxWorkingBlocks; trace.block *= 2) {
  }
  trace.touched.resize((bytes + trace.block - 1) / trace.block);
  void* p = mmap(nullptr, bytes, PROT_NONE, MAP_SHARED, artefact_fd, 0);
  if (p == MAP_FAILED) return {};
  const Mapping mapping(p, bytes);
  trace.base = static_cast<std::byte*>(p);
  {
    const Tracing tracing(trace);
    auto model = LoadedModel::create(ort, {trace.base, bytes}, {.threads = 1}, ArenaView());
    if (!model.ok() || !(*model)->runner->probe(free_dim).ok()) return {};
  }
  return join_blocks({trace.touched.begin(), trace.touched.end()}, trace.block, bytes);
}

std::string working_set_report(const std::vector<ByteRange>& ranges) {
  std::uint64_t bytes = 0;
  std::string list;
  for (const ByteRange& r : ranges) {
    bytes += r.bytes;
    list += fmt::format("{}[{},{}]", list.empty() ? "" : ",", r.offset, r.bytes);
  }
  return fmt::format(R"({{"bytes":{},"ranges":[{}]}})", bytes, list);
}

}  // namespace mayfly
