// ONNX Runtime behind the platform's narrow interface. Runs only in the zygote, in instances and in compile jobs:
// processes that are already closed. Loads libonnxruntime by dlopen (its symbols are versioned), API 24, C only.
// Nothing here opens files or sockets: bytes come in as mappings, out through descriptors that the sandbox set up.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "tensor/tensor.h"
#include "worker_ipc/arena.h"

namespace mayfly {

// The library and its environment; made once in the zygote, before any fork. Sets ORT_DISABLE_TELEMETRY=1 first.
// Creates no thread (checked by the zygote).
class OnnxRuntime {
 public:
  virtual ~OnnxRuntime() = default;
  static Result<std::unique_ptr<OnnxRuntime>> load(const std::string& library_path);
  virtual std::string version() const = 0;  // "1.32.0"
  // Creates, runs and drops a session of a tiny model that is compiled into this binary, so that code and allocator
  // pages are hot.
  virtual Status prime() = 0;
};

// The life of one instance after the sandbox is complete: maps the artefact, makes the session, runs requests from the
// arena until the server closes its end (wake descriptor reads 0 / EOF never happens for eventfd: ends by SIGKILL).
// Never returns normally; the return value is the exit status. Writes ArenaHeader.mapped_ns, session_ns, state,
// error_text.
struct InstanceArgs {
  OnnxRuntime* runtime = nullptr;
  int artefact_fd = -1;
  std::uint64_t artefact_bytes = 0;
  ArenaView arena;   // mapped; header.geometry and transform are filled in
  int wake_fd = -1;  // eventfd: server → instance
  int done_fd = -1;  // eventfd: instance → server
};
int run_instance(const InstanceArgs& args);

// A compile job: reads the ONNX model (mapped from model_fd), optimises it offline, writes the .ort artefact to
// artefact_fd through a scratch file in `scratch_dir` (a private tmpfs), reloads it the way an instance does, runs a
// probe, measures. Writes a JSON report
// {"ok":true,"inputs":[…],"outputs":[…],"artefact_bytes":…,"load_ms":…,"run_ms":…,"private_bytes":…,
// "rows_independent":…,"tier":{see tier_check.h},"working_set":{see
// working_set.h},"opset":…,"runtime":"onnxruntime 1.32.0"} or
// {"ok":false,"reason":"invalid_model","message":"…"} to `report` (NUL-terminated, truncated to fit). Returns the exit
// status: 0 if the report says ok.
struct CompileArgs {
  OnnxRuntime* runtime = nullptr;
  int model_fd = -1;
  std::uint64_t model_bytes = 0;
  int artefact_fd = -1;
  std::string scratch_dir;
  std::span<char> report;
};
int run_compile(const CompileArgs& args);

}  // namespace mayfly
