#include "gateway/grpc/call.h"

#include <algorithm>
#include <utility>

namespace mayfly::grpc {
namespace {

constexpr MethodInfo kMethods[] = {
    {"/inference.GRPCInferenceService/ModelInfer", Rpc::kModelInfer, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/ModelStreamInfer", Rpc::kModelStreamInfer, Access::kInvoke, true},
    {"/inference.GRPCInferenceService/ServerLive", Rpc::kServerLive, Access::kPublic, false},
    {"/inference.GRPCInferenceService/ServerReady", Rpc::kServerReady, Access::kPublic, false},
    {"/inference.GRPCInferenceService/ServerMetadata", Rpc::kServerMetadata, Access::kPublic, false},
    {"/inference.GRPCInferenceService/ModelReady", Rpc::kModelReady, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/ModelMetadata", Rpc::kModelMetadata, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/ModelConfig", Rpc::kModelConfig, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/ModelStatistics", Rpc::kModelStatistics, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/RepositoryIndex", Rpc::kRepositoryIndex, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/RepositoryModelLoad", Rpc::kRepositoryLoad, Access::kDeploy, false},
    {"/inference.GRPCInferenceService/RepositoryModelUnload", Rpc::kRepositoryUnload, Access::kDeploy, false},
    {"/inference.GRPCInferenceService/SystemSharedMemoryStatus", Rpc::kSharedMemoryStatus, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/SystemSharedMemoryRegister", Rpc::kSharedMemoryRegister, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/SystemSharedMemoryUnregister", Rpc::kSharedMemoryUnregister, Access::kInvoke,
     false},
    {"/inference.GRPCInferenceService/CudaSharedMemoryStatus", Rpc::kCudaSharedMemory, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/CudaSharedMemoryRegister", Rpc::kCudaSharedMemory, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/CudaSharedMemoryUnregister", Rpc::kCudaSharedMemory, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/TraceSetting", Rpc::kTraceSetting, Access::kInvoke, false},
    {"/inference.GRPCInferenceService/LogSettings", Rpc::kLogSettings, Access::kInvoke, false},
    {"/inference.model_repository.ModelRepositoryService/RepositoryIndex", Rpc::kRepositoryIndex, Access::kInvoke,
     false},
    {"/inference.model_repository.ModelRepositoryService/RepositoryModelLoad", Rpc::kRepositoryLoad, Access::kDeploy,
     false},
    {"/inference.model_repository.ModelRepositoryService/RepositoryModelUnload", Rpc::kRepositoryUnload,
     Access::kDeploy, false},
    {"/grpc.health.v1.Health/Check", Rpc::kHealthCheck, Access::kPublic, false},
    {"/grpc.health.v1.Health/Watch", Rpc::kHealthWatch, Access::kPublic, false},
    {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Rpc::kReflection, Access::kInvoke, true},
    {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Rpc::kReflection, Access::kInvoke, true},
};

constexpr std::string_view kContentType = "application/grpc";

bool is_protobuf(std::string_view content_type) {
  content_type.remove_prefix(kContentType.size());
  return content_type.empty() || content_type.front() == ';' || content_type == "+proto" ||
         content_type.starts_with("+proto;");
}

bool lists(std::string_view values, std::string_view wanted) {
  while (!values.empty()) {
    const auto comma = values.find(',');
    std::string_view one = values.substr(0, comma);
    values = comma == std::string_view::npos ? "" : values.substr(comma + 1);
    while (!one.empty() && one.front() == ' ') one.remove_prefix(1);
    while (!one.empty() && one.back() == ' ') one.remove_suffix(1);
    if (one == wanted) return true;
  }
  return false;
}

Error malformed_timeout(std::string_view value) {
  return invalid("malformed_request", "grpc-timeout is \"{}\"; expected at most 8 digits and one of H, M, S, m, u, n",
                 value.substr(0, 50));
}

Status read_header(const Header& h, Call& call) {
  if (h.name.size() < 12) return Ok{};  // the shortest that matters
  if (iequals(h.name, "grpc-timeout")) {
    call.timeout_ns = parse_timeout(h.value);
    if (!call.timeout_ns) return malformed_timeout(h.value);
  } else if (iequals(h.name, "grpc-encoding")) {
    if (h.value == "gzip") {
      call.encoding = Encoding::kGzip;
    } else if (h.value != "identity") {
      return make_error(Code::kUnimplemented, "unsupported_message_encoding",
                        "grpc-encoding is \"{}\"; this server takes identity and gzip", h.value.substr(0, 50));
    }
  } else if (iequals(h.name, "grpc-accept-encoding")) {
    call.gzip_answers = lists(h.value, "gzip");
  } else if (iequals(h.name, "content-type") && !is_protobuf(h.value)) {
    return make_error(Code::kUnimplemented, "unsupported_content_type",
                      "content-type is \"{}\"; this server takes application/grpc and application/grpc+proto",
                      h.value.substr(0, 50));
  }
  return Ok{};
}

}  // namespace

const MethodInfo* find_method(std::string_view path) {
  for (const MethodInfo& m : kMethods) {
    if (m.path == path) return &m;
  }
  return nullptr;
}

std::string_view service_of(std::string_view path) { return path.substr(1, path.rfind('/') - 1); }

bool has_service(std::string_view name) {
  return std::any_of(std::begin(kMethods), std::end(kMethods),
                     [name](const MethodInfo& m) { return service_of(m.path) == name; });
}

bool is_grpc(const RequestHead& head) {
  const std::string_view type = head.header("content-type");
  if (!iequals(type.substr(0, kContentType.size()), kContentType)) return false;
  return type.size() == kContentType.size() || type[kContentType.size()] == '+' || type[kContentType.size()] == ';';
}

Status read_call(const RequestHead& head, Call& call) {
  call.timeout_ns.reset();
  call.encoding = Encoding::kIdentity;
  call.gzip_answers = false;
  call.method = find_method(head.path);
  if (call.method == nullptr) {
    return make_error(Code::kUnimplemented, "unknown_method",
                      "no gRPC method {}; the reflection service lists what there is", head.path.substr(0, 200));
  }
  if (head.method != Method::kPost) {
    return make_error(Code::kUnimplemented, "method_not_allowed", "gRPC calls are POST requests; got {}",
                      head.method_text);
  }
  for (const Header& h : head.headers) MAYFLY_TRY(read_header(h, call));
  // Every client lists what it could read; only one that compresses itself is thought to want it.
  call.gzip_answers = call.gzip_answers && call.encoding == Encoding::kGzip;
  return Ok{};
}

std::optional<std::uint64_t> parse_timeout(std::string_view text) {
  constexpr std::size_t kMaxDigits = 8;
  if (text.size() < 2 || text.size() > kMaxDigits + 1) return std::nullopt;
  std::uint64_t n = 0;
  for (const char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    n = n * 10 + static_cast<std::uint64_t>(c - '0');
  }
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 62;  // 146 years: can be added to a clock
  constexpr std::pair<char, std::uint64_t> kUnits[] = {
      {'H', 3'600'000'000'000}, {'M', 60'000'000'000}, {'S', 1'000'000'000}, {'m', 1'000'000}, {'u', 1'000}, {'n', 1}};
  for (const auto& [unit, ns] : kUnits) {
    if (text.back() == unit) return n > kLongest / ns ? kLongest : n * ns;
  }
  return std::nullopt;
}

}  // namespace mayfly::grpc
