#include "runtimes/onnx/onnx_runtime.h"

#include <dlfcn.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "runtimes/onnx/ort_api.h"
#include "runtimes/onnx/prime_model.h"

namespace mayfly {
namespace {

void ORT_API_CALL log_line(void*, OrtLoggingLevel, const char* category, const char*, const char*,
                           const char* message) {
  std::fprintf(stderr, "mayfly: onnxruntime: %s: %s\n", category, message);
}

}  // namespace

Result<std::unique_ptr<OnnxRuntime>> OnnxRuntime::load(const std::string& library_path) {
  constexpr const char* kReason = "runtime_library_failed";
  // Before the library is mapped: otherwise it starts a thread, a database and a device id.
  if (setenv("ORT_DISABLE_TELEMETRY", "1", 1) != 0) return errno_error(errno, "set ORT_DISABLE_TELEMETRY");
  void* library = dlopen(library_path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return make_error(Code::kFailedPrecondition, kReason,
                      "can't load ONNX Runtime from \"{}\": {}; fetch it with ./dev set-up", library_path, dlerror());
  }
  auto* base_fn = reinterpret_cast<const OrtApiBase*(ORT_API_CALL*)()>(dlsym(library, "OrtGetApiBase"));
  const OrtApiBase* base = base_fn != nullptr ? base_fn() : nullptr;
  Ort ort;
  ort.api = base != nullptr ? base->GetApi(ORT_API_VERSION) : nullptr;
  if (ort.api == nullptr) {
    return make_error(Code::kFailedPrecondition, kReason,
                      "\"{}\" offers no ONNX Runtime API {}; version 1.24 or newer is needed", library_path,
                      ORT_API_VERSION);
  }
  MAYFLY_TRY(
      ort.check(ort.api->CreateEnvWithCustomLogger(log_line, nullptr, ORT_LOGGING_LEVEL_ERROR, "mayfly", &ort.env),
                kReason, "create the runtime's environment"));
  MAYFLY_TRY(ort.check(ort.api->DisableTelemetryEvents(ort.env), kReason, "disable telemetry"));
  MAYFLY_TRY(ort.check(ort.api->GetAllocatorWithDefaultOptions(&ort.allocator), kReason, "get the allocator"));
  return std::unique_ptr<OnnxRuntime>(new LoadedRuntime(ort, base->GetVersionString()));
}

Status LoadedRuntime::prime() {
  const auto bytes = std::as_bytes(std::span(kPrimeModel));
  auto session = Session::create(ort_, bytes, {.threads = 1, .ort_format = false});
  if (!session.ok()) return std::move(session.error());
  auto memory = ort_.cpu_memory();
  if (!memory.ok()) return std::move(memory.error());
  alignas(64) std::array<float, kPrimeInputs> x{};
  auto input = ort_.tensor_over(memory->get(), Dtype::kFp32, session->signature.inputs[0].shape,
                                std::as_writable_bytes(std::span(x)));
  if (!input.ok()) return std::move(input.error());
  const OrtValue* in = input->get();
  OrtValue* out = nullptr;
  MAYFLY_TRY(ort_.check(ort_.api->Run(session->session.get(), nullptr, session->input_names.data(), &in, 1,
                                      session->output_names.data(), 1, &out),
                        "prime_failed", "run the priming model"));
  ort_.own(out);
  return Ok{};
}

}  // namespace mayfly
