// A compile job: ONNX in, .ort artefact and JSON report out. Runs in a sandbox with a scratch tmpfs and no network;
// one thread.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/fd.h"
#include "base/write_all.h"
#include "runtimes/onnx/memory_use.h"
#include "runtimes/onnx/model_scan.h"
#include "runtimes/onnx/ort_api.h"
#include "runtimes/onnx/row_check.h"
#include "runtimes/onnx/slot_runner.h"
#include "runtimes/onnx/tier_check.h"
#include "runtimes/onnx/working_set.h"
#include "tensor/json.h"

namespace mayfly {
namespace {

constexpr int kTimedRuns = 5;
constexpr double kRowCheckMs = 2000;  // a model that runs longer gains nothing from joining rows
constexpr std::size_t kCopyBytes = 1 << 20;

struct Measured {
  Signature signature;
  std::uint64_t artefact_bytes = 0;
  double load_ms = 0, run_ms = 0;
  std::uint64_t private_bytes = 0;
  bool rows_independent = false;
  std::string tier, working_set;  // JSON
};

double now_ms() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

Result<Mapping> map_file(int fd, std::uint64_t bytes, const char* what) {
  if (bytes == 0) return invalid("invalid_model", "the {} is empty", what);
  void* p = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) return errno_error(errno, fmt::format("map the {} of {} bytes", what, bytes));
  return Mapping(p, bytes);
}

std::span<const std::byte> bytes_of(const Mapping& m) { return {static_cast<const std::byte*>(m.data()), m.size()}; }

Status write_artefact(int fd, std::span<const std::byte> data) {
  if (lseek(fd, 0, SEEK_SET) < 0) return errno_error(errno, "rewind the artefact");
  if (!write_all(fd, data, kCopyBytes)) return errno_error(errno, "write the artefact");
  return Ok{};
}

// Optimises the model into scratch_dir/model.ort and copies that to the artefact's descriptor.
Result<std::uint64_t> optimise(const Ort& ort, std::span<const std::byte> model, const CompileArgs& args) {
  const std::string path = args.scratch_dir + "/model.ort";
  {
    auto session = Session::create(ort, model, {.threads = 1, .ort_format = false, .save_optimised_to = path});
    if (!session.ok()) return std::move(session.error());
  }
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat st{};
  if (!file.valid() || fstat(file.get(), &st) != 0) return errno_error(errno, "open the optimised model");
  const auto bytes = static_cast<std::uint64_t>(st.st_size);
  auto mapped = map_file(file.get(), bytes, "optimised model");
  if (!mapped.ok()) return std::move(mapped.error());
  unlink(path.c_str());
  MAYFLY_TRY(write_artefact(args.artefact_fd, bytes_of(*mapped)));
  return bytes;
}

// Loads the artefact as an instance does, runs it on zeros, and times both.
Status measure(const Ort& ort, int artefact_fd, const Mapping& artefact, Measured& m) {
  const std::uint64_t before = private_bytes();
  const double start = now_ms();
  auto session = Session::create(ort, bytes_of(artefact), {.threads = 1});
  if (!session.ok()) return std::move(session.error());
  m.load_ms = now_ms() - start;
  auto runner = SlotRunner::create(ort, *session, ArenaView());
  if (!runner.ok()) return std::move(runner.error());
  std::int64_t free_dim = 1;
  auto first = (*runner)->probe(free_dim);
  if (!first.ok()) first = (*runner)->probe(free_dim = 8);  // graphs that need a few rows or steps: pooling, windows
  if (!first.ok()) {
    if (first.error().reason == "model_too_complex") return std::move(first.error());
    return invalid("probe_failed", "the model loads but does not run on zeros with free dimensions of 1 or 8: {}",
                   first.error().message);
  }
  std::array<std::uint64_t, kTimedRuns> runs{};
  for (auto& ns : runs) {
    auto run = (*runner)->probe(free_dim);
    if (!run.ok()) return std::move(run.error());
    ns = *run;
  }
  std::sort(runs.begin(), runs.end());
  m.run_ms = static_cast<double>(runs[kTimedRuns / 2]) / 1e6;
  const std::uint64_t after = private_bytes();
  m.private_bytes = after > before ? after - before : 0;
  if (m.run_ms <= kRowCheckMs) m.rows_independent = rows_are_independent(ort, *session);
  m.tier = tier_report(compare_tiers(ort, bytes_of(artefact), **runner, free_dim, m.run_ms));
  m.working_set = working_set_report(trace_working_set(ort, artefact_fd, artefact.size(), free_dim));
  m.signature = std::move(session->signature);
  return Ok{};
}

Result<std::string> compile(const CompileArgs& args) {
  const Ort& ort = ort_of(*args.runtime);
  auto model = map_file(args.model_fd, args.model_bytes, "model");
  if (!model.ok()) return std::move(model.error());
  auto scan = scan_model(bytes_of(*model));
  if (!scan.ok()) return std::move(scan.error());
  if (scan->external_data) {
    return invalid("external_data_unsupported",
                   "the model keeps tensors in another file; save it as one file "
                   "(onnx.save_model with save_as_external_data=False) and deploy that");
  }
  Measured m;
  if (scan->is_ort) {
    MAYFLY_TRY(write_artefact(args.artefact_fd, bytes_of(*model)));
    m.artefact_bytes = args.model_bytes;
  } else {
    auto bytes = optimise(ort, bytes_of(*model), args);
    if (!bytes.ok()) return std::move(bytes.error());
    m.artefact_bytes = *bytes;
  }
  *model = Mapping();
  auto artefact = map_file(args.artefact_fd, m.artefact_bytes, "artefact");
  if (!artefact.ok()) return std::move(artefact.error());
  MAYFLY_TRY(measure(ort, args.artefact_fd, *artefact, m));
  const std::string signature = signature_to_json(m.signature);  // {"inputs":[…],"outputs":[…]}
  return fmt::format(R"({{"ok":true,{},"artefact_bytes":{},"load_ms":{:.3f},"run_ms":{:.4f},"private_bytes":{},)"
                     R"("rows_independent":{},"tier":{},"working_set":{},"opset":{},"runtime":"onnxruntime {}"}})",
                     std::string_view(signature).substr(1, signature.size() - 2), m.artefact_bytes, m.load_ms, m.run_ms,
                     m.private_bytes, m.rows_independent, m.tier, m.working_set, scan->opset, args.runtime->version());
}

std::string refusal(const Error& e) {
  constexpr std::size_t kMaxMessage = 1000;  // the runtime quotes names of the model, which may be long
  std::string out = R"({"ok":false,"reason":)";
  append_json_string(out, e.reason);
  out += R"(,"message":)";
  append_json_string(out, std::string_view(e.message).substr(0, kMaxMessage));
  return out + "}";
}

Result<std::string> compile_safely(const CompileArgs& args) {
  try {
    return compile(args);
  } catch (const std::exception& e) {
    return make_error(Code::kResourceExhausted, "model_too_complex", "compiling the model failed: {}", e.what());
  }
}

}  // namespace

int run_compile(const CompileArgs& args) {
  auto report = compile_safely(args);
  if (report.ok() && report->size() >= args.report.size()) {
    report = invalid("model_too_complex", "the model's signature takes {} bytes; the limit is {}", report->size(),
                     args.report.size());
  }
  const std::string text = report.ok() ? *report : refusal(report.error());
  if (!args.report.empty()) std::snprintf(args.report.data(), args.report.size(), "%s", text.c_str());
  return report.ok() ? 0 : 1;
}

}  // namespace mayfly
