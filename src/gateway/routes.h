// What is served where: one table (routes.cc) of methods, path pattern, handler, scope and schemas. Matching, the
// header Allow, scopes and /openapi.json come from it. Pure; matching allocates nothing. The routes of a prediction
// stand first and are found by comparing a few segments.
//
// A pattern is segments; {name}, {version} and {part} take one segment, with a fixed end where one is
// written behind it ("{name}:predict"). Rows of one path stand together. One slash at the end of a path changes
// nothing.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "iam/keys.h"

namespace mayfly {

enum class Route : std::uint8_t {
  // Open Inference Protocol
  kInfer,
  kServerInfo,
  kLive,
  kReady,
  kModelList,
  kModelMetadata,
  kModelReady,
  // Triton's extensions
  kGenerate,
  kGenerateStream,
  kModelConfig,
  kModelStats,
  kAllStats,
  kRepositoryIndex,
  kRepositoryLoad,
  kRepositoryUnload,
  kTrace,
  kTraceSet,
  kLogging,
  kLoggingSet,
  kSharedMemoryStatus,
  kSharedMemoryRegister,
  kSharedMemoryUnregister,
  kCudaSharedMemory,
  // KServe V1 and TensorFlow Serving
  kV1Predict,
  kV1Classify,
  kV1Unsupported,
  kV1ModelList,
  kV1Model,
  kV1Metadata,
  // TorchServe
  kPredictions,
  kPing,  // SageMaker's too
  kApiDescription,
  kTorchModels,
  kTorchModel,
  kExplanations,
  // SageMaker
  kInvocations,
  kEndpointInvocations,
  // administration and the server's own pages
  kPackages,
  kEndpoints,
  kEndpoint,
  kEndpointDelete,
  kVersions,
  kInstances,
  kEndpointLogs,
  kEndpointExplain,
  kEndpointWake,
  kNode,
  kKeyList,
  kKeyCreate,
  kKeyRevoke,
  kKeyLimit,
  kMetrics,
  kOpenApi,
};

// Which folder answers: also the tag in /openapi.json.
enum class Room : std::uint8_t { kOip, kV1, kTorchServe, kSageMaker, kAdmin, kPages };

// What on_head finds before a handler runs. kModel: the endpoint and version that the path names. kPrediction: also its
// limit on the body and its deadline, and it is woken.
enum class Needs : std::uint8_t { kNothing, kModel, kPrediction };

inline constexpr std::uint32_t kPublic = 0;  // as a scope: nobody is asked for a key

struct RouteSpec {
  std::string_view methods;  // as the header Allow says them: "GET, HEAD"
  std::string_view path;
  Route route;
  Room room;
  Needs needs;
  std::uint32_t scope;  // kPublic or one Scope
  std::string_view summary;
  std::string_view request;   // name in components.requestBodies; empty: no body
  std::string_view response;  // name in components.responses
};

std::span<const RouteSpec> routes();

struct RouteMatch {
  const RouteSpec* spec = nullptr;       // null: nothing is served at this path
  bool method_fits = false;              // false: `spec` is the first row of the path
  std::string_view name, version, part;  // as sent, not percent-decoded; empty where the pattern has none
};
RouteMatch match_route(std::string_view method, std::string_view path);

// The methods of all rows of the same path: the value of Allow.
std::string allowed_methods(const RouteSpec& spec);

// In which form a path's errors are written, whether anything is served there or not.
enum class Dialect : std::uint8_t { kOip, kTorchServe, kSageMaker };
Dialect dialect_of(std::string_view path);

}  // namespace mayfly
