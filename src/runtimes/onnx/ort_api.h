// The thinnest layer over ONNX Runtime's C API: owners for its objects, OrtStatus as Error, a session with its
// signature. No exception leaves the C API. Everything here belongs to one thread of a zygote, an instance or a
// compile job.
//
// An error's code is kInvalidArgument where the runtime blames the arguments (a shape, an index out of range), else
// kInternal; its reason is the caller's, its message names the step and carries the runtime's text.
#pragma once
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtimes/onnx/onnx_runtime.h"
#include "tensor/tensor.h"

namespace mayfly {

template <typename T>
struct OrtRelease {
  void (*release)(T*) = nullptr;
  void operator()(T* p) const { release(p); }
};
template <typename T>
using OrtOwned = std::unique_ptr<T, OrtRelease<T>>;

// The library's table of functions and the environment made with it. Borrowed: OnnxRuntime owns both.
struct Ort {
  const OrtApi* api = nullptr;
  OrtEnv* env = nullptr;
  OrtAllocator* allocator = nullptr;  // the runtime's default allocator, never released

  Status check(OrtStatus* status, const char* reason, const char* step) const;
  OrtOwned<OrtValue> own(OrtValue* v) const { return {v, {api->ReleaseValue}}; }
  // A tensor over memory of ours: data must outlive it.
  Result<OrtOwned<OrtValue>> tensor_over(const OrtMemoryInfo* memory, Dtype dtype, const Shape& shape,
                                         std::span<std::byte> data) const;
  Result<OrtOwned<OrtMemoryInfo>> cpu_memory() const;
};

ONNXTensorElementDataType to_ort(Dtype t);
Dtype from_ort(ONNXTensorElementDataType t);  // kInvalid: a type the platform does not speak

struct SessionConfig {
  std::uint32_t threads = 1;
  bool prepack = false;                // weights are copied into the form that kernels like best: private memory
  bool ort_format = true;              // bytes are an .ort artefact, used in place: they must outlive the session
  std::string save_optimised_to = {};  // not empty: optimise fully and save as .ort
};

// A loaded model. Movable: the name pointers stay valid, as they point into the signature's heap.
struct Session {
  OrtOwned<OrtSession> session;
  Signature signature;
  std::vector<const char*> input_names, output_names;

  // Reasons: invalid_model, unsupported_input_type, unsupported_output_type, model_too_complex.
  static Result<Session> create(const Ort& ort, std::span<const std::byte> bytes, const SessionConfig& config);
};

// The one implementation of OnnxRuntime; prepared by OnnxRuntime::load.
class LoadedRuntime final : public OnnxRuntime {
 public:
  LoadedRuntime(const Ort& ort, std::string version) : ort_(ort), version_(std::move(version)) {}
  // The environment and the library live as long as the process: unloading them runs foreign exit code for nothing.
  ~LoadedRuntime() override = default;
  std::string version() const override { return version_; }
  Status prime() override;
  const Ort& ort() const { return ort_; }

 private:
  Ort ort_;
  std::string version_;
};

inline const Ort& ort_of(const OnnxRuntime& runtime) { return static_cast<const LoadedRuntime&>(runtime).ort(); }

}  // namespace mayfly
