// A native back end for Triton Inference Server over ONNX Runtime, so that Triton can be measured against without its
// own one, which no package carries. Triton loads it as libtriton_onnx_native.so and calls the five functions at the
// end; the functions that it calls in turn are declared here as Triton's back-end API 1.x defines them, since the
// package has no header.
//
// As fair as we know how to make it: one session of one thread per model instance, fully optimised; inputs are read
// where Triton has them, outputs are copied once into Triton's buffers; requests are run one by one (no batches are
// joined). FP32 inputs and FP32 or INT64 outputs, which is all that the bench asks. MAYFLY_BENCH_ORT names ONNX
// Runtime's library.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#include <time.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

extern "C" {
struct TRITONSERVER_Error;
struct TRITONBACKEND_Backend;
struct TRITONBACKEND_Model;
struct TRITONBACKEND_ModelInstance;
struct TRITONBACKEND_Request;
struct TRITONBACKEND_Response;
struct TRITONBACKEND_Input;
struct TRITONBACKEND_Output;

enum { kTritonErrorInternal = 1, kTritonErrorInvalidArgument = 3, kTritonErrorUnsupported = 5 };
enum { kTritonInt64 = 9, kTritonFp32 = 11 };
enum { kTritonCpu = 0 };
enum : std::uint32_t { kTritonFinalResponse = 1, kTritonReleaseAll = 1 };

TRITONSERVER_Error* TRITONSERVER_ErrorNew(int code, const char* message);
void TRITONSERVER_ErrorDelete(TRITONSERVER_Error* error);
TRITONSERVER_Error* TRITONBACKEND_ModelRepository(TRITONBACKEND_Model* model, int* kind, const char** location);
TRITONSERVER_Error* TRITONBACKEND_ModelVersion(TRITONBACKEND_Model* model, std::uint64_t* version);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceModel(TRITONBACKEND_ModelInstance* instance,
                                                     TRITONBACKEND_Model** model);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceState(TRITONBACKEND_ModelInstance* instance, void** state);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceSetState(TRITONBACKEND_ModelInstance* instance, void* state);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportStatistics(TRITONBACKEND_ModelInstance* instance,
                                                                TRITONBACKEND_Request* request, bool success,
                                                                std::uint64_t begin, std::uint64_t compute_begin,
                                                                std::uint64_t compute_end, std::uint64_t end);
TRITONSERVER_Error* TRITONBACKEND_RequestInputCount(TRITONBACKEND_Request* request, std::uint32_t* count);
TRITONSERVER_Error* TRITONBACKEND_RequestInputByIndex(TRITONBACKEND_Request* request, std::uint32_t index,
                                                      TRITONBACKEND_Input** input);
TRITONSERVER_Error* TRITONBACKEND_RequestOutputCount(TRITONBACKEND_Request* request, std::uint32_t* count);
TRITONSERVER_Error* TRITONBACKEND_RequestOutputName(TRITONBACKEND_Request* request, std::uint32_t index,
                                                    const char** name);
TRITONSERVER_Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request* request, std::uint32_t flags);
TRITONSERVER_Error* TRITONBACKEND_InputProperties(TRITONBACKEND_Input* input, const char** name, int* datatype,
                                                  const std::int64_t** shape, std::uint32_t* rank, std::uint64_t* bytes,
                                                  std::uint32_t* buffers);
TRITONSERVER_Error* TRITONBACKEND_InputBuffer(TRITONBACKEND_Input* input, std::uint32_t index, const void** buffer,
                                              std::uint64_t* bytes, int* memory, std::int64_t* memory_id);
TRITONSERVER_Error* TRITONBACKEND_ResponseNew(TRITONBACKEND_Response** response, TRITONBACKEND_Request* request);
TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response* response, TRITONBACKEND_Output** output,
                                                 const char* name, int datatype, const std::int64_t* shape,
                                                 std::uint32_t rank);
TRITONSERVER_Error* TRITONBACKEND_ResponseSend(TRITONBACKEND_Response* response, std::uint32_t flags,
                                               TRITONSERVER_Error* error);
TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output* output, void** buffer, std::uint64_t bytes,
                                               int* memory, std::int64_t* memory_id);
}

namespace {

constexpr std::size_t kMaxRank = 16;

#define TRY(expression)                                   \
  do {                                                    \
    if (TRITONSERVER_Error* e_ = (expression)) return e_; \
  } while (0)

std::uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

TRITONSERVER_Error* error(int code, const std::string& what) { return TRITONSERVER_ErrorNew(code, what.c_str()); }

// ONNX Runtime, once per process.
struct Runtime {
  const OrtApi* api = nullptr;
  OrtEnv* env = nullptr;
  OrtMemoryInfo* memory = nullptr;
};
Runtime g_runtime;

TRITONSERVER_Error* check(OrtStatus* status) {
  if (status == nullptr) return nullptr;
  TRITONSERVER_Error* e = error(kTritonErrorInternal, g_runtime.api->GetErrorMessage(status));
  g_runtime.api->ReleaseStatus(status);
  return e;
}

struct FreeValue {
  void operator()(OrtValue* v) const { g_runtime.api->ReleaseValue(v); }
};
struct FreeInfo {
  void operator()(OrtTensorTypeAndShapeInfo* i) const { g_runtime.api->ReleaseTensorTypeAndShapeInfo(i); }
};
using Value = std::unique_ptr<OrtValue, FreeValue>;

// One model instance: Triton calls it from one thread at a time.
class Instance {
 public:
  ~Instance() {
    if (session_ != nullptr) g_runtime.api->ReleaseSession(session_);
  }

  TRITONSERVER_Error* load(const std::string& path) {
    const OrtApi& api = *g_runtime.api;
    OrtSessionOptions* options = nullptr;
    TRY(check(api.CreateSessionOptions(&options)));
    const std::unique_ptr<OrtSessionOptions, void (*)(OrtSessionOptions*)> owned(options, api.ReleaseSessionOptions);
    TRY(check(api.SetIntraOpNumThreads(options, 1)));
    TRY(check(api.SetInterOpNumThreads(options, 1)));
    TRY(check(api.SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL)));
    return check(api.CreateSession(g_runtime.env, path.c_str(), options, &session_));
  }

  // Runs the request and fills the response. begin and end: the run of the model.
  TRITONSERVER_Error* run(TRITONBACKEND_Request* request, TRITONBACKEND_Response* response, std::uint64_t& begin,
                          std::uint64_t& end) {
    TRY(read_inputs(request));
    TRY(read_output_names(request));
    std::vector<const OrtValue*> inputs;
    for (const Value& v : inputs_) inputs.push_back(v.get());
    std::vector<OrtValue*> raw(output_names_.size(), nullptr);
    begin = now_ns();
    OrtStatus* status = g_runtime.api->Run(session_, nullptr, input_names_.data(), inputs.data(), inputs.size(),
                                           output_names_.data(), output_names_.size(), raw.data());
    end = now_ns();
    const std::vector<Value> outputs(raw.begin(), raw.end());
    TRY(check(status));
    for (std::size_t i = 0; i < outputs.size(); ++i) TRY(write_output(response, output_names_[i], outputs[i].get()));
    return nullptr;
  }

 private:
  TRITONSERVER_Error* read_inputs(TRITONBACKEND_Request* request) {
    std::uint32_t count = 0;
    TRY(TRITONBACKEND_RequestInputCount(request, &count));
    inputs_.clear();
    input_names_.clear();
    for (std::uint32_t i = 0; i < count; ++i) {
      TRITONBACKEND_Input* input = nullptr;
      const char* name = nullptr;
      int datatype = 0, memory = kTritonCpu;
      const std::int64_t* shape = nullptr;
      std::uint32_t rank = 0, buffers = 0;
      std::uint64_t bytes = 0;
      std::int64_t memory_id = 0;
      const void* data = nullptr;
      TRY(TRITONBACKEND_RequestInputByIndex(request, i, &input));
      TRY(TRITONBACKEND_InputProperties(input, &name, &datatype, &shape, &rank, &bytes, &buffers));
      if (datatype != kTritonFp32) return error(kTritonErrorUnsupported, "inputs are FP32 only");
      TRY(first_buffer(input, buffers, bytes, &data, &memory, &memory_id));
      OrtValue* value = nullptr;
      TRY(check(g_runtime.api->CreateTensorWithDataAsOrtValue(g_runtime.memory, const_cast<void*>(data), bytes, shape,
                                                              rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value)));
      inputs_.emplace_back(value);
      input_names_.push_back(name);
    }
    return nullptr;
  }

  // The whole tensor in one piece: where Triton has it, or joined if it came in several.
  TRITONSERVER_Error* first_buffer(TRITONBACKEND_Input* input, std::uint32_t buffers, std::uint64_t bytes,
                                   const void** data, int* memory, std::int64_t* memory_id) {
    std::uint64_t size = 0;
    TRY(TRITONBACKEND_InputBuffer(input, 0, data, &size, memory, memory_id));
    if (buffers == 1) return nullptr;
    joined_.resize(bytes);
    std::uint64_t at = 0;
    for (std::uint32_t i = 0; i < buffers; ++i) {
      TRY(TRITONBACKEND_InputBuffer(input, i, data, &size, memory, memory_id));
      if (size > bytes - at) return error(kTritonErrorInvalidArgument, "more bytes than the tensor has");
      std::memcpy(joined_.data() + at, *data, size);
      at += size;
    }
    *data = joined_.data();
    return nullptr;
  }

  TRITONSERVER_Error* read_output_names(TRITONBACKEND_Request* request) {
    std::uint32_t count = 0;
    TRY(TRITONBACKEND_RequestOutputCount(request, &count));
    output_names_.resize(count);
    for (std::uint32_t i = 0; i < count; ++i) TRY(TRITONBACKEND_RequestOutputName(request, i, &output_names_[i]));
    return nullptr;
  }

  static TRITONSERVER_Error* write_output(TRITONBACKEND_Response* response, const char* name, OrtValue* value) {
    const OrtApi& api = *g_runtime.api;
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    TRY(check(api.GetTensorTypeAndShape(value, &raw)));
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, FreeInfo> info(raw);
    ONNXTensorElementDataType type{};
    std::size_t rank = 0, elements = 0;
    std::int64_t shape[kMaxRank];
    TRY(check(api.GetTensorElementType(raw, &type)));
    TRY(check(api.GetTensorShapeElementCount(raw, &elements)));
    TRY(check(api.GetDimensionsCount(raw, &rank)));
    const bool is_float = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    if ((!is_float && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64) || rank > kMaxRank) {
      return error(kTritonErrorUnsupported, "outputs are FP32 or INT64 of rank 16 at most");
    }
    TRY(check(api.GetDimensions(raw, shape, rank)));
    void* from = nullptr;
    TRY(check(api.GetTensorMutableData(value, &from)));
    TRITONBACKEND_Output* output = nullptr;
    void* to = nullptr;
    int memory = kTritonCpu;
    std::int64_t memory_id = 0;
    const std::size_t bytes = elements * (is_float ? sizeof(float) : sizeof(std::int64_t));
    TRY(TRITONBACKEND_ResponseOutput(response, &output, name, is_float ? kTritonFp32 : kTritonInt64, shape,
                                     static_cast<std::uint32_t>(rank)));
    TRY(TRITONBACKEND_OutputBuffer(output, &to, bytes, &memory, &memory_id));
    std::memcpy(to, from, bytes);
    return nullptr;
  }

  OrtSession* session_ = nullptr;
  std::vector<Value> inputs_;
  std::vector<const char*> input_names_, output_names_;
  std::vector<char> joined_;
};

}  // namespace

#define TRITON_CALLS extern "C" __attribute__((visibility("default"))) TRITONSERVER_Error*

TRITON_CALLS TRITONBACKEND_Initialize(TRITONBACKEND_Backend* /*backend*/) {
  const char* path = std::getenv("MAYFLY_BENCH_ORT");
  void* library = dlopen(path != nullptr ? path : "libonnxruntime.so", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return error(kTritonErrorInternal, dlerror());
  auto* base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  if (base == nullptr) return error(kTritonErrorInternal, "the library has no OrtGetApiBase");
  g_runtime.api = base()->GetApi(ORT_API_VERSION);
  if (g_runtime.api == nullptr) return error(kTritonErrorUnsupported, "ONNX Runtime is older than its header");
  TRY(check(g_runtime.api->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "triton", &g_runtime.env)));
  return check(g_runtime.api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &g_runtime.memory));
}

TRITON_CALLS TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* triton) {
  TRITONBACKEND_Model* model = nullptr;
  int kind = 0;
  const char* location = nullptr;
  std::uint64_t version = 0;
  TRY(TRITONBACKEND_ModelInstanceModel(triton, &model));
  TRY(TRITONBACKEND_ModelRepository(model, &kind, &location));
  TRY(TRITONBACKEND_ModelVersion(model, &version));
  auto instance = std::make_unique<Instance>();
  TRY(instance->load(std::string(location) + "/" + std::to_string(version) + "/model.onnx"));
  TRY(TRITONBACKEND_ModelInstanceSetState(triton, instance.get()));
  instance.release();  // until ModelInstanceFinalize
  return nullptr;
}

TRITON_CALLS TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* triton) {
  void* state = nullptr;
  TRY(TRITONBACKEND_ModelInstanceState(triton, &state));
  delete static_cast<Instance*>(state);
  return nullptr;
}

TRITON_CALLS TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* triton, TRITONBACKEND_Request** requests,
                                                std::uint32_t count) {
  void* state = nullptr;
  TRY(TRITONBACKEND_ModelInstanceState(triton, &state));
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t begin = now_ns();
    std::uint64_t run_begin = begin, run_end = begin;
    TRITONBACKEND_Response* response = nullptr;
    TRITONSERVER_Error* failed = TRITONBACKEND_ResponseNew(&response, requests[i]);
    if (failed == nullptr) {
      failed = static_cast<Instance*>(state)->run(requests[i], response, run_begin, run_end);
      TRITONSERVER_ErrorDelete(TRITONBACKEND_ResponseSend(response, kTritonFinalResponse, failed));
    }
    TRITONSERVER_ErrorDelete(TRITONBACKEND_ModelInstanceReportStatistics(triton, requests[i], failed == nullptr, begin,
                                                                         run_begin, run_end, now_ns()));
    TRITONSERVER_ErrorDelete(failed);
    TRITONSERVER_ErrorDelete(TRITONBACKEND_RequestRelease(requests[i], kTritonReleaseAll));
  }
  return nullptr;
}
