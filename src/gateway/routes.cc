#include "gateway/routes.h"

#include <array>

namespace mayfly {
namespace {

constexpr std::size_t kMaxSegments = 8;

using enum Route;
using enum Room;
using enum Needs;

constexpr std::string_view kRead = "GET, HEAD";

constexpr RouteSpec kRoutes[] = {
    // Predictions first: they are what is asked for.
    {"POST", "/v2/models/{name}/infer", kInfer, kOip, kPrediction, kInvoke,
     "Predict: Open Inference Protocol, JSON or with the binary tensor extension", "Infer", "Infer"},
    {"POST", "/v2/models/{name}/versions/{version}/infer", kInfer, kOip, kPrediction, kInvoke,
     "Predict with one version", "Infer", "Infer"},
    {"POST", "/v1/models/{name}:predict", kV1Predict, kV1, kPrediction, kInvoke,
     "Predict: KServe V1 and TensorFlow Serving, rows or columns", "V1Predict", "V1Predict"},
    {"POST", "/v1/models/{name}/versions/{version}:predict", kV1Predict, kV1, kPrediction, kInvoke,
     "Predict with one version", "V1Predict", "V1Predict"},
    {"POST", "/v1/models/{name}/labels/{part}:predict", kV1Predict, kV1, kPrediction, kInvoke,
     "Predict with the version that a label names: stable or previous", "V1Predict", "V1Predict"},
    {"POST, PUT", "/predictions/{name}", kPredictions, kTorchServe, kPrediction, kInvoke,
     "Predict from raw bytes, such as a picture; PUT is what `curl -T` sends", "Bytes", "Predictions"},
    {"POST, PUT", "/predictions/{name}/{version}", kPredictions, kTorchServe, kPrediction, kInvoke,
     "Predict from raw bytes with one version", "Bytes", "Predictions"},
    {"POST", "/invocations", kInvocations, kSageMaker, kPrediction, kInvoke,
     "SageMaker's container contract: the tenant's only endpoint, or the one that X-Amzn-SageMaker-Target-Model names",
     "Invocation", "Invocation"},
    {"POST", "/endpoints/{name}/invocations", kEndpointInvocations, kSageMaker, kPrediction, kInvoke,
     "SageMaker's runtime API: InvokeEndpoint", "Invocation", "Invocation"},

    {kRead, "/v2", kServerInfo, kOip, kNothing, kPublic, "Server metadata", "", "ServerMetadata"},
    {kRead, "/v2/health/live", kLive, kOip, kNothing, kPublic, "Is the server alive", "", "Live"},
    {kRead, "/v2/health/ready", kReady, kOip, kNothing, kPublic, "Does the server take requests", "", "Ready"},
    {kRead, "/v2/models", kModelList, kOip, kNothing, kInvoke, "All models with their metadata", "", "ModelList"},
    {kRead, "/v2/models/stats", kAllStats, kOip, kNothing, kInvoke, "Statistics of all models", "", "Stats"},
    {kRead, "/v2/models/{name}", kModelMetadata, kOip, kModel, kInvoke,
     "Metadata of a model: inputs, outputs, versions", "", "ModelMetadata"},
    {kRead, "/v2/models/{name}/versions/{version}", kModelMetadata, kOip, kModel, kInvoke, "Metadata of one version",
     "", "ModelMetadata"},
    {kRead, "/v2/models/{name}/ready", kModelReady, kOip, kModel, kInvoke, "Is the model ready (a model at zero is)",
     "", "ModelReady"},
    {kRead, "/v2/models/{name}/versions/{version}/ready", kModelReady, kOip, kModel, kInvoke, "Is the version ready",
     "", "ModelReady"},

    {"POST", "/v2/models/{name}/generate", kGenerate, kOip, kPrediction, kInvoke,
     "Predict: inputs by name as members of one object", "Generate", "Generate"},
    {"POST", "/v2/models/{name}/versions/{version}/generate", kGenerate, kOip, kPrediction, kInvoke,
     "The same with one version", "Generate", "Generate"},
    {"POST", "/v2/models/{name}/generate_stream", kGenerateStream, kOip, kPrediction, kInvoke,
     "The same, answered as server-sent events", "Generate", "EventStream"},
    {"POST", "/v2/models/{name}/versions/{version}/generate_stream", kGenerateStream, kOip, kPrediction, kInvoke,
     "The same with one version, as events", "Generate", "EventStream"},
    {kRead, "/v2/models/{name}/config", kModelConfig, kOip, kModel, kInvoke, "Configuration, Triton's way", "",
     "ModelConfig"},
    {kRead, "/v2/models/{name}/versions/{version}/config", kModelConfig, kOip, kModel, kInvoke,
     "Configuration of one version", "", "ModelConfig"},
    {kRead, "/v2/models/{name}/stats", kModelStats, kOip, kModel, kInvoke, "Statistics of a model", "", "Stats"},
    {kRead, "/v2/models/{name}/versions/{version}/stats", kModelStats, kOip, kModel, kInvoke,
     "Statistics of one version", "", "Stats"},
    {"POST", "/v2/repository/index", kRepositoryIndex, kOip, kNothing, kInvoke, "Every version that is served", "Index",
     "RepositoryIndex"},
    {"POST", "/v2/repository/models/{name}/load", kRepositoryLoad, kOip, kModel, kDeploy,
     "Start an instance of the live version", "Options", "Nothing"},
    {"POST", "/v2/repository/models/{name}/unload", kRepositoryUnload, kOip, kModel, kDeploy,
     "End its instances; the next request starts one", "Options", "Nothing"},
    {kRead, "/v2/trace/setting", kTrace, kOip, kNothing, kInvoke, "Trace settings", "", "Settings"},
    {"POST", "/v2/trace/setting", kTraceSet, kOip, kNothing, Scope::kAdmin, "Trace settings can't be changed",
     "Options", "Settings"},
    {kRead, "/v2/models/{name}/trace/setting", kTrace, kOip, kModel, kInvoke, "Trace settings of a model", "",
     "Settings"},
    {"POST", "/v2/models/{name}/trace/setting", kTraceSet, kOip, kModel, Scope::kAdmin,
     "Trace settings of a model can't be changed", "Options", "Settings"},
    {kRead, "/v2/logging", kLogging, kOip, kNothing, kInvoke, "Log settings", "", "Settings"},
    {"POST", "/v2/logging", kLoggingSet, kOip, kNothing, Scope::kAdmin, "Turn the line of each request on or off",
     "Options", "Settings"},
    {kRead, "/v2/systemsharedmemory/status", kSharedMemoryStatus, kOip, kNothing, kInvoke,
     "The caller's shared memory regions", "", "Regions"},
    {kRead, "/v2/systemsharedmemory/region/{part}/status", kSharedMemoryStatus, kOip, kNothing, kInvoke,
     "One shared memory region", "", "Regions"},
    {"POST", "/v2/systemsharedmemory/region/{part}/register", kSharedMemoryRegister, kOip, kNothing, kInvoke,
     "Register a POSIX shared memory segment", "Region", "Nothing"},
    {"POST", "/v2/systemsharedmemory/unregister", kSharedMemoryUnregister, kOip, kNothing, kInvoke,
     "Unregister all of the caller's regions", "Options", "Nothing"},
    {"POST", "/v2/systemsharedmemory/region/{part}/unregister", kSharedMemoryUnregister, kOip, kNothing, kInvoke,
     "Unregister one region", "Options", "Nothing"},
    {kRead, "/v2/cudasharedmemory/status", kCudaSharedMemory, kOip, kNothing, kInvoke, "Not supported", "", ""},
    {kRead, "/v2/cudasharedmemory/region/{part}/status", kCudaSharedMemory, kOip, kNothing, kInvoke, "Not supported",
     "", ""},
    {"POST", "/v2/cudasharedmemory/region/{part}/register", kCudaSharedMemory, kOip, kNothing, kInvoke, "Not supported",
     "Any", ""},
    {"POST", "/v2/cudasharedmemory/unregister", kCudaSharedMemory, kOip, kNothing, kInvoke, "Not supported", "Options",
     ""},
    {"POST", "/v2/cudasharedmemory/region/{part}/unregister", kCudaSharedMemory, kOip, kNothing, kInvoke,
     "Not supported", "Options", ""},

    {"POST", "/v1/models/{name}:classify", kV1Classify, kV1, kPrediction, kInvoke,
     "The best classes of each example, of endpoints with output.classes", "V1Classify", "V1Classify"},
    {"POST", "/v1/models/{name}/versions/{version}:classify", kV1Classify, kV1, kPrediction, kInvoke,
     "The best classes, by one version", "V1Classify", "V1Classify"},
    {"POST", "/v1/models/{name}/labels/{part}:classify", kV1Classify, kV1, kPrediction, kInvoke,
     "The best classes, by the version that a label names", "V1Classify", "V1Classify"},
    {"POST", "/v1/models/{name}:regress", kV1Unsupported, kV1, kModel, kInvoke, "Not supported", "Any", ""},
    {"POST", "/v1/models/{name}:explain", kV1Unsupported, kV1, kModel, kInvoke, "Not supported", "Any", ""},
    {kRead, "/v1/models", kV1ModelList, kV1, kNothing, kInvoke, "All models, for KServe and for OpenAI's clients", "",
     "V1ModelList"},
    {kRead, "/v1/models/{name}", kV1Model, kV1, kModel, kInvoke,
     "Readiness (KServe), status of versions (TensorFlow Serving), and the model (OpenAI)", "", "V1Model"},
    {kRead, "/v1/models/{name}/versions/{version}", kV1Model, kV1, kModel, kInvoke, "Status of one version", "",
     "V1Model"},
    {kRead, "/v1/models/{name}/labels/{part}", kV1Model, kV1, kModel, kInvoke,
     "Status of the version that a label names", "", "V1Model"},
    {kRead, "/v1/models/{name}/metadata", kV1Metadata, kV1, kModel, kInvoke, "The signature, TensorFlow Serving's way",
     "", "V1Metadata"},
    {kRead, "/v1/models/{name}/versions/{version}/metadata", kV1Metadata, kV1, kModel, kInvoke,
     "The signature of one version", "", "V1Metadata"},
    {kRead, "/v1/models/{name}/labels/{part}/metadata", kV1Metadata, kV1, kModel, kInvoke,
     "The signature of the version that a label names", "", "V1Metadata"},

    {kRead, "/ping", kPing, kTorchServe, kNothing, kPublic, "Does the server take requests (TorchServe, SageMaker)", "",
     "Ping"},
    {kRead, "/api-description", kApiDescription, kTorchServe, kNothing, kPublic, "This document", "", "OpenApi"},
    {"OPTIONS", "/", kApiDescription, kTorchServe, kNothing, kPublic, "This document", "", "OpenApi"},
    {kRead, "/models", kTorchModels, kTorchServe, kNothing, kInvoke, "All models; ?limit=N&next_page_token=N", "",
     "TorchModels"},
    {kRead, "/models/{name}", kTorchModel, kTorchServe, kModel, kInvoke, "A model with its workers", "", "TorchModel"},
    {kRead, "/models/{name}/{version}", kTorchModel, kTorchServe, kModel, kInvoke, "One version with its workers", "",
     "TorchModel"},
    {"POST", "/explanations/{name}", kExplanations, kTorchServe, kModel, kInvoke, "Not supported", "Any", ""},
    {"POST", "/explanations/{name}/{version}", kExplanations, kTorchServe, kModel, kInvoke, "Not supported", "Any", ""},

    {"POST", "/admin/v1/packages", kPackages, kAdmin, kNothing, kDeploy, "Upload a model; answers its digest", "Bytes",
     "Package"},
    {kRead, "/admin/v1/endpoints", kEndpoints, kAdmin, kNothing, kDeploy, "All endpoints with their state", "",
     "EndpointList"},
    {"GET", "/admin/v1/endpoints/{name}", kEndpoint, kAdmin, kModel, kDeploy,
     "One endpoint: versions, settings, instances", "", "Endpoint"},
    {"DELETE", "/admin/v1/endpoints/{name}", kEndpointDelete, kAdmin, kModel, kDeploy, "Delete an endpoint", "",
     "Deleted"},
    {"POST", "/admin/v1/endpoints/{name}/versions", kVersions, kAdmin, kNothing, kDeploy,
     "Deploy a package, or what a source holds, as the next version: {package or source, spec}", "Deploy", "Deployed"},
    {kRead, "/admin/v1/endpoints/{name}/logs", kEndpointLogs, kAdmin, kModel, kDeploy, "Latest log lines; ?tail=N", "",
     "LogLines"},
    {kRead, "/admin/v1/endpoints/{name}/explain", kEndpointExplain, kAdmin, kModel, kDeploy,
     "In what state it is, why, what a start would cost now, its last events", "", "Explanation"},
    {"POST", "/admin/v1/endpoints/{name}/wake", kEndpointWake, kAdmin, kModel, kInvoke,
     "Requests will come: start an instance, or ?instances=N, without waiting", "", "Woken"},
    {kRead, "/admin/v1/node", kNode, kAdmin, kNothing, Scope::kAdmin, "What this node holds in memory", "", "Node"},
    {kRead, "/admin/v1/instances", kInstances, kAdmin, kNothing, kDeploy, "All instances", "", "InstanceList"},
    {"GET", "/admin/v1/keys", kKeyList, kAdmin, kNothing, Scope::kAdmin, "All keys, without their secrets", "",
     "KeyList"},
    {"POST", "/admin/v1/keys", kKeyCreate, kAdmin, kNothing, Scope::kAdmin,
     "Make a key: {name, scopes, rate, burst, concurrency, weight}; the secret is shown once", "NewKey", "NewKey"},
    {"PATCH", "/admin/v1/keys/{name}", kKeyLimit, kAdmin, kNothing, Scope::kAdmin,
     "Change limits of a key: {rate, burst, concurrency, weight}; null for none", "KeyLimits", "KeyRow"},
    {"DELETE", "/admin/v1/keys/{name}", kKeyRevoke, kAdmin, kNothing, Scope::kAdmin, "Revoke a key by its id", "",
     "Revoked"},

    {kRead, "/metrics", kMetrics, kPages, kNothing, Scope::kAdmin, "Metrics as Prometheus text", "", "Metrics"},
    {kRead, "/openapi.json", kOpenApi, kPages, kNothing, kPublic, "This document", "", "OpenApi"},
};

struct Segment {
  enum class Kind : std::uint8_t { kLiteral, kName, kVersion, kPart } kind = Kind::kLiteral;
  std::string_view text;  // of a variable: what must follow it in the segment
};

template <typename T>
struct Segments {
  std::array<T, kMaxSegments> at{};
  std::size_t count = 0;  // kMaxSegments + 1: more than any pattern has
};

// What lies between slashes; `path` begins with one.
constexpr Segments<std::string_view> split(std::string_view path) {
  Segments<std::string_view> out;
  if (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  while (!path.empty()) {
    path.remove_prefix(1);
    const auto slash = path.find('/');
    if (out.count == kMaxSegments) {
      ++out.count;
      return out;
    }
    out.at[out.count++] = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash);
  }
  return out;
}

constexpr Segment compile_segment(std::string_view s) {
  if (s.empty() || s.front() != '{') return {Segment::Kind::kLiteral, s};
  const auto end = s.find('}');
  const std::string_view variable = s.substr(1, end - 1);
  const auto kind = variable == "name"      ? Segment::Kind::kName
                    : variable == "version" ? Segment::Kind::kVersion
                                            : Segment::Kind::kPart;
  return {kind, s.substr(end + 1)};
}

constexpr std::size_t kCount = std::size(kRoutes);

constexpr auto kPatterns = [] {
  std::array<Segments<Segment>, kCount> out{};
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto texts = split(kRoutes[i].path);
    out[i].count = texts.count;
    for (std::size_t k = 0; k < texts.count; ++k) out[i].at[k] = compile_segment(texts.at[k]);
  }
  return out;
}();

bool fits(const Segments<Segment>& pattern, const Segments<std::string_view>& path, RouteMatch& m) {
  if (pattern.count != path.count) return false;
  for (std::size_t i = 0; i < path.count; ++i) {
    const Segment& s = pattern.at[i];
    std::string_view text = path.at[i];
    if (s.kind == Segment::Kind::kLiteral) {
      if (s.text != text) return false;
      continue;
    }
    if (!text.ends_with(s.text)) return false;
    text.remove_suffix(s.text.size());
    (s.kind == Segment::Kind::kName ? m.name : s.kind == Segment::Kind::kVersion ? m.version : m.part) = text;
  }
  return true;
}

bool has_method(std::string_view methods, std::string_view method) {
  for (;;) {
    const auto comma = methods.find(", ");
    if (methods.substr(0, comma) == method) return true;
    if (comma == std::string_view::npos) return false;
    methods.remove_prefix(comma + 2);
  }
}

bool under(std::string_view path, std::string_view prefix) {
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

}  // namespace

std::span<const RouteSpec> routes() { return kRoutes; }

RouteMatch match_route(std::string_view method, std::string_view path) {
  if (path.empty() || path.front() != '/') return {};
  const auto segments = split(path);
  for (std::size_t i = 0; i < kCount; ++i) {
    RouteMatch m;
    if (!fits(kPatterns[i], segments, m)) continue;
    m.spec = &kRoutes[i];
    for (std::size_t k = i; k < kCount && kRoutes[k].path == kRoutes[i].path; ++k) {
      if (!has_method(kRoutes[k].methods, method)) continue;
      m.spec = &kRoutes[k];
      m.method_fits = true;
      break;
    }
    return m;
  }
  return {};
}

std::string allowed_methods(const RouteSpec& spec) {
  std::string out;
  for (const RouteSpec& r : kRoutes) {
    if (r.path == spec.path) out.append(out.empty() ? "" : ", ").append(r.methods);
  }
  return out;
}

Dialect dialect_of(std::string_view path) {
  if (under(path, "/v2") || under(path, "/v1") || under(path, "/admin")) return Dialect::kOip;
  for (std::string_view p : {"/predictions", "/explanations", "/models", "/ping", "/api-description"}) {
    if (under(path, p)) return Dialect::kTorchServe;
  }
  if (under(path, "/invocations") || under(path, "/endpoints")) return Dialect::kSageMaker;
  return Dialect::kOip;
}

}  // namespace mayfly
