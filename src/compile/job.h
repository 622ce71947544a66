// One compile job: a sandboxed process that validates a model, optimises it offline, writes the artefact, runs a probe
// and reports. The server never parses the model; it reads the job's report as hostile text.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "async/one_shot.h"
#include "base/fd.h"
#include "launcher/client.h"
#include "policy/tier.h"
#include "tensor/tensor.h"

namespace mayfly {

// Offset and bytes of parts of an artefact, ascending.
using FileRanges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

struct CompileReport {
  Signature signature;
  std::string json;  // the report as stored: an object without "ok"
  std::uint64_t artefact_bytes = 0;
  std::uint64_t private_bytes = 0;  // of session and runs
  bool rows_independent = false;    // of a batch
  policy::TierPlan tier;            // not allowed where the report says nothing of use
  FileRanges working_set;           // what a first run reads; empty where the report says nothing of use
};
struct CompileLimits {
  std::uint64_t memory_bytes = 4ULL << 30;
  std::uint64_t scratch_bytes = 4ULL << 30;
  std::uint32_t cpu_milli = 2000;
  std::uint64_t timeout_ms = 300'000;
};

// `model`: read-only; `artefact`: empty file open for writing. Errors: the job's own reason (invalid_model, …),
// compile_timeout, compile_out_of_memory, compile_failed.
Task<Result<CompileReport>> compile_model(LauncherClient& launcher, int model_fd, std::uint64_t model_bytes,
                                          int artefact_fd, CompileLimits limits);
// The report of a finished job; exposed for the tests.
Result<CompileReport> read_report(std::string_view text);
// The same from what was stored of it (CompileReport::json).
Result<CompileReport> read_stored_report(std::string_view report_json);

}  // namespace mayfly
