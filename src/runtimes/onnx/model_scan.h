// A look at an ONNX file's protobuf before the runtime parses it: what the runtime's C API does not tell, and what
// must be refused with a clear reason. Reads hostile bytes, allocates nothing, follows nesting to a fixed depth.
// Field numbers: onnx.proto3 (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto).
#pragma once
#include <cstdint>
#include <span>

#include "base/result.h"

namespace mayfly {

struct ModelScan {
  std::int64_t opset = 0;      // of the default domain; 0 if none is imported
  bool external_data = false;  // a tensor's values lie in another file
  bool is_ort = false;         // an .ort file ("ORTM"): nothing else was read
};

// "invalid_model" if the bytes are no protobuf message with a graph, "model_too_complex" if graphs nest too deep.
Result<ModelScan> scan_model(std::span<const std::byte> bytes);

}  // namespace mayfly
