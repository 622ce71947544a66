#include "runtimes/onnx/ort_api.h"

#include <array>
#include <utility>

namespace mayfly {
namespace {

constexpr std::size_t kMaxNameBytes = 512;  // what signature_from_json takes

constexpr std::array kTypes = {
    std::pair{Dtype::kBool, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
    std::pair{Dtype::kUint8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
    std::pair{Dtype::kUint16, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16},
    std::pair{Dtype::kUint32, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32},
    std::pair{Dtype::kUint64, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64},
    std::pair{Dtype::kInt8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},
    std::pair{Dtype::kInt16, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16},
    std::pair{Dtype::kInt32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
    std::pair{Dtype::kInt64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
    std::pair{Dtype::kFp16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    std::pair{Dtype::kFp32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
    std::pair{Dtype::kFp64, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE},
    std::pair{Dtype::kBf16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16},
    std::pair{Dtype::kBytes, ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING},
};

Result<OrtOwned<OrtSessionOptions>> make_options(const Ort& ort, const SessionConfig& config) {
  const OrtApi& api = *ort.api;
  constexpr const char* kReason = "session_options_failed";
  OrtSessionOptions* raw = nullptr;
  MAYFLY_TRY(ort.check(api.CreateSessionOptions(&raw), kReason, "create session options"));
  OrtOwned<OrtSessionOptions> options(raw, {api.ReleaseSessionOptions});
  MAYFLY_TRY(ort.check(api.SetIntraOpNumThreads(raw, static_cast<int>(config.threads)), kReason, "set threads"));
  MAYFLY_TRY(ort.check(api.SetInterOpNumThreads(raw, 1), kReason, "set threads"));
  MAYFLY_TRY(ort.check(api.SetSessionExecutionMode(raw, ORT_SEQUENTIAL), kReason, "set the execution mode"));
  MAYFLY_TRY(ort.check(api.SetSessionLogSeverityLevel(raw, ORT_LOGGING_LEVEL_ERROR), kReason, "set the log level"));
  std::vector<std::pair<const char*, const char*>> entries = {{"session.intra_op.allow_spinning", "0"},
                                                              {"session.inter_op.allow_spinning", "0"}};
  if (config.ort_format) {
    entries.insert(entries.end(), {{"session.load_model_format", "ORT"},
                                   {"session.use_ort_model_bytes_directly", "1"},
                                   {"session.use_ort_model_bytes_for_initializers", "1"}});
    if (!config.prepack) entries.emplace_back("session.disable_prepacking", "1");
  } else {
    entries.emplace_back("session.load_model_format", "ONNX");
  }
  if (!config.save_optimised_to.empty()) {
    MAYFLY_TRY(ort.check(api.SetSessionGraphOptimizationLevel(raw, ORT_ENABLE_ALL), kReason, "set the optimisation"));
    MAYFLY_TRY(ort.check(api.SetOptimizedModelFilePath(raw, config.save_optimised_to.c_str()), kReason,
                         "set the optimised model's path"));
    entries.emplace_back("session.save_model_format", "ORT");
  }
  for (const auto& [key, value] : entries) {
    MAYFLY_TRY(ort.check(api.AddSessionConfigEntry(raw, key, value), kReason, key));
  }
  return options;
}

// One input or output of the model: its type, and its shape with -1 for whatever is not a positive number.
Result<TensorSpec> read_spec(const Ort& ort, OrtTypeInfo* info, std::string name, bool input) {
  const OrtApi& api = *ort.api;
  const char* side = input ? "input" : "output";
  const char* reason = input ? "unsupported_input_type" : "unsupported_output_type";
  if (name.empty() || name.size() > kMaxNameBytes) {
    return invalid("model_too_complex", "an {} has a name of {} bytes; names have 1 to {} bytes", side, name.size(),
                   kMaxNameBytes);
  }
  ONNXType kind = ONNX_TYPE_UNKNOWN;
  MAYFLY_TRY(ort.check(api.GetOnnxTypeFromTypeInfo(info, &kind), "invalid_model", "read a type"));
  if (kind != ONNX_TYPE_TENSOR) {
    return invalid(reason,
                   "{} \"{}\" is not a dense tensor (ONNX type {}: sequence, map, sparse or optional); export a "
                   "scikit-learn classifier with zipmap=False, or drop it from the graph",
                   side, name, static_cast<int>(kind));
  }
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  MAYFLY_TRY(ort.check(api.CastTypeInfoToTensorInfo(info, &tensor), "invalid_model", "read a type"));
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  MAYFLY_TRY(ort.check(api.GetTensorElementType(tensor, &type), "invalid_model", "read an element type"));
  TensorSpec spec{std::move(name), from_ort(type), {}};
  if (spec.dtype == Dtype::kInvalid) {
    return invalid(reason,
                   "{} \"{}\" has the ONNX element type {}, which the inference protocol can't carry; cast it to "
                   "FP32 or INT64 in the model",
                   side, spec.name, static_cast<int>(type));
  }
  std::size_t rank = 0;
  MAYFLY_TRY(ort.check(api.GetDimensionsCount(tensor, &rank), "invalid_model", "read a rank"));
  if (rank > kMaxRank) {
    return invalid("model_too_complex", "{} \"{}\" has {} dimensions; the limit is {}", side, spec.name, rank,
                   kMaxRank);
  }
  spec.shape.rank = static_cast<std::uint8_t>(rank);
  MAYFLY_TRY(ort.check(api.GetDimensions(tensor, spec.shape.dims.data(), rank), "invalid_model", "read a shape"));
  for (std::size_t i = 0; i < rank; ++i) {
    if (spec.shape.dims[i] <= 0) spec.shape.dims[i] = -1;
  }
  return spec;
}

Status read_side(const Ort& ort, OrtSession* session, bool input, std::vector<TensorSpec>& out) {
  const OrtApi& api = *ort.api;
  std::size_t count = 0;
  MAYFLY_TRY(ort.check(input ? api.SessionGetInputCount(session, &count) : api.SessionGetOutputCount(session, &count),
                       "invalid_model", "count tensors"));
  if (count > kMaxTensors) {
    return invalid("model_too_complex", "the model has {} {}; the limit is {}", count, input ? "inputs" : "outputs",
                   kMaxTensors);
  }
  for (std::size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    MAYFLY_TRY(ort.check(input ? api.SessionGetInputName(session, i, ort.allocator, &name)
                               : api.SessionGetOutputName(session, i, ort.allocator, &name),
                         "invalid_model", "read a name"));
    std::string copy(name);
    MAYFLY_TRY(ort.check(api.AllocatorFree(ort.allocator, name), "invalid_model", "free a name"));
    OrtTypeInfo* raw = nullptr;
    MAYFLY_TRY(ort.check(
        input ? api.SessionGetInputTypeInfo(session, i, &raw) : api.SessionGetOutputTypeInfo(session, i, &raw),
        "invalid_model", "read a type"));
    OrtOwned<OrtTypeInfo> info(raw, {api.ReleaseTypeInfo});
    auto spec = read_spec(ort, raw, std::move(copy), input);
    if (!spec.ok()) return std::move(spec.error());
    out.push_back(std::move(*spec));
  }
  return Ok{};
}

}  // namespace

ONNXTensorElementDataType to_ort(Dtype t) {
  for (const auto& [ours, theirs] : kTypes)
    if (ours == t) return theirs;
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

Dtype from_ort(ONNXTensorElementDataType t) {
  for (const auto& [ours, theirs] : kTypes)
    if (theirs == t) return ours;
  return Dtype::kInvalid;
}

Status Ort::check(OrtStatus* status, const char* reason, const char* step) const {
  if (status == nullptr) return Ok{};
  const OrtErrorCode code = api->GetErrorCode(status);
  Error e{code == ORT_INVALID_ARGUMENT ? Code::kInvalidArgument : Code::kInternal, reason,
          fmt::format("can't {}: {}", step, api->GetErrorMessage(status))};
  api->ReleaseStatus(status);
  return e;
}

Result<OrtOwned<OrtValue>> Ort::tensor_over(const OrtMemoryInfo* memory, Dtype dtype, const Shape& shape,
                                            std::span<std::byte> data) const {
  OrtValue* raw = nullptr;
  MAYFLY_TRY(check(api->CreateTensorWithDataAsOrtValue(memory, data.data(), data.size(), shape.dims.data(), shape.rank,
                                                       to_ort(dtype), &raw),
                   "tensor_failed", "make a tensor"));
  return own(raw);
}

Result<OrtOwned<OrtMemoryInfo>> Ort::cpu_memory() const {
  OrtMemoryInfo* raw = nullptr;
  MAYFLY_TRY(check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &raw), "memory_info_failed",
                   "describe CPU memory"));
  return OrtOwned<OrtMemoryInfo>(raw, {api->ReleaseMemoryInfo});
}

Result<Session> Session::create(const Ort& ort, std::span<const std::byte> bytes, const SessionConfig& config) {
  auto options = make_options(ort, config);
  if (!options.ok()) return std::move(options.error());
  OrtSession* raw = nullptr;
  MAYFLY_TRY(ort.check(ort.api->CreateSessionFromArray(ort.env, bytes.data(), bytes.size(), options->get(), &raw),
                       "invalid_model", "load the model"));
  Session s;
  s.session = OrtOwned<OrtSession>(raw, {ort.api->ReleaseSession});
  MAYFLY_TRY(read_side(ort, raw, true, s.signature.inputs));
  MAYFLY_TRY(read_side(ort, raw, false, s.signature.outputs));
  if (s.signature.outputs.empty()) return invalid("invalid_model", "the model has no output");
  for (const auto& t : s.signature.inputs) s.input_names.push_back(t.name.c_str());
  for (const auto& t : s.signature.outputs) s.output_names.push_back(t.name.c_str());
  return s;
}

}  // namespace mayfly
