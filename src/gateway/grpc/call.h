// What the head of a gRPC call says: which method, how long it may take, how its messages are compressed. Values; no
// I/O. Source: grpc.io, "gRPC over HTTP2".
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/http.h"
#include "worker_ipc/oip_grpc.h"

namespace mayfly::grpc {

enum class Rpc : std::uint8_t {
  kModelInfer,
  kModelStreamInfer,
  kServerLive,
  kServerReady,
  kServerMetadata,
  kModelReady,
  kModelMetadata,
  kModelConfig,
  kModelStatistics,
  kRepositoryIndex,
  kRepositoryLoad,
  kRepositoryUnload,
  kSharedMemoryStatus,
  kSharedMemoryRegister,
  kSharedMemoryUnregister,
  kCudaSharedMemory,
  kTraceSetting,
  kLogSettings,
  kHealthCheck,
  kHealthWatch,
  kReflection,
};

enum class Access : std::uint8_t { kPublic, kInvoke, kDeploy };

struct MethodInfo {
  std::string_view path;
  Rpc rpc;
  Access access;
  bool client_streams;
};
// Null: no such method.
const MethodInfo* find_method(std::string_view path);
std::string_view service_of(std::string_view path);  // "/a.B/C" → "a.B"
bool has_service(std::string_view name);

enum class Encoding : std::uint8_t { kIdentity, kGzip };

// A call under way. Reused between requests, so that a unary call allocates nothing at steady state.
struct Call {
  const MethodInfo* method = nullptr;
  std::optional<std::uint64_t> timeout_ns;
  Encoding encoding = Encoding::kIdentity;  // of the client's messages
  bool gzip_answers = false;                // the client compresses, and takes compressed answers
  GrpcInfer infer;
  std::string inflated;
};

// "application/grpc", alone or with a "+" or ";" after it; gRPC-Web is another protocol.
bool is_grpc(const RequestHead& head);

// Reads the head into `call`. Errors: unknown_method (kUnimplemented), method_not_allowed, unsupported_content_type,
// unsupported_message_encoding (both kUnimplemented), malformed_request (a grpc-timeout that is none).
Status read_call(const RequestHead& head, Call& call);

// "8 digits at most, then H M S m u n" in nanoseconds, saturated; nothing if it is malformed.
std::optional<std::uint64_t> parse_timeout(std::string_view text);

}  // namespace mayfly::grpc
