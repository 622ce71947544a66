// gRPC reflection, v1 and v1alpha: what lets grpcurl and its like call the services without their .proto files. Pure.
#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly::grpc {

// Answers one ServerReflectionRequest with a ServerReflectionResponse, appended to `out`; what is not found is told in
// it. malformed_message.
Status answer_reflection(std::string_view message, std::string& out);

}  // namespace mayfly::grpc
