// How a gRPC call says that it failed: grpc-status and grpc-message, and google.rpc.Status in grpc-status-details-bin
// with ErrorInfo{reason, domain "mayfly"} and, where trying again may help, RetryInfo. Values; no I/O. Sources:
// grpc.io, "gRPC over HTTP2" (section "Responses"); googleapis "google/rpc/status.proto", "error_details.proto".
#pragma once
#include <string>
#include <string_view>

#include "gateway/http.h"

namespace mayfly::grpc {

inline constexpr std::string_view kContentTypeGrpc = "application/grpc";
inline constexpr std::string_view kOkTrailers = "grpc-status: 0\r\n";
inline constexpr std::string_view kErrorDomain = "mayfly";
inline constexpr std::size_t kMaxMessageText = 1024;  // of a message, in bytes: clients refuse large trailers

// The code of an error by its number in gRPC, but payload_too_large, which is RESOURCE_EXHAUSTED whatever its code.
Code code_of(const Error& error);

// Appends the lines that tell `error`, for trailers.
void append_status(std::string& lines, const Error& error);

// An answer that is nothing but a status: HTTP 200, no body; HTTP/2 sends head and trailers in one then. Keeps what
// `rs.headers` has. In an answer that has begun, the trailers alone count.
void render_error(const Error& error, Response& rs);

std::string percent_encode(std::string_view message);
std::string base64(std::string_view bytes);  // without padding, as gRPC has it

}  // namespace mayfly::grpc
