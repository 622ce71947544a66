// The Open Inference Protocol v2 codec (REST form, with Triton's binary tensor and classification extensions): requests
// are parsed straight into a slot's input region, responses printed straight from its output region. This is the hot
// path: no intermediate vectors. Values; no I/O; each thread has its own parser and text buffer.
//
// Sources: KServe "Open Inference Protocol (V2)" and Triton's extension_binary_data.md, extension_classification.md.
// Reasons of parse errors (all kInvalidArgument): malformed_json, unknown_tensor, missing_tensor, duplicate_tensor,
// datatype_mismatch, tensor_shape_mismatch, tensor_size_mismatch, value_out_of_range, invalid_value,
// payload_too_large, shared_memory_unsupported, and those of SharedMemoryAccess. Unknown keys of a request are ignored,
// and so are the parameters sequence_id, sequence_start and sequence_end: models here keep no state between requests.
// JSON has no NaN: responses print NaN, Infinity and -Infinity (what Python's json reads); requests can't carry them
// in JSON, only in binary form.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"
#include "worker_ipc/arena.h"
#include "worker_ipc/input_area.h"
#include "worker_ipc/shared_memory.h"

namespace mayfly {

inline constexpr std::size_t kMaxRequestIdBytes = 1024;
inline constexpr std::size_t kMaxDataNesting = 16;         // of arrays in "data"
inline constexpr std::uint32_t kMaxClassification = 1000;  // "classification" of a requested output

struct InferRequest {
  std::string id;
  bool binary_output_default = false;
  std::uint64_t priority = 0;    // as sent: 0 is none, 1 the highest (Triton)
  std::uint64_t timeout_us = 0;  // 0: none
  struct Out {
    std::uint32_t index = 0;  // position in the signature's outputs
    std::optional<bool> binary;
    std::uint32_t classification = 0;  // > 0: that many "score:index" strings for each row of the last dimension
    SharedPlace shared{};              // the output is written there instead of into the answer
  };
  std::vector<Out> outputs;  // empty: all, in the signature's order
  // The caller's regions; null: requests may not refer to shared memory. Set by the caller of parse_infer.
  const SharedMemoryAccess* shared_memory = nullptr;

  void clear() {
    id.clear();
    binary_output_default = false;
    priority = timeout_us = 0;
    outputs.clear();
  }
};

// Parses a request body. `inference_header_content_length`: length of the JSON part where binary data follows it;
// without it the whole body is JSON. Fills rq.inputs (in the request's order, offsets aligned to kTensorAlign),
// rq.input_count, rq.output_mask and rq.kind, and writes the tensors into `area`; on an error the area's
// content is unspecified.
Status parse_infer(std::string_view body, std::optional<std::uint64_t> inference_header_content_length,
                   const Signature& sig, SlotRequest& rq, InputArea& area, InferRequest& out);

// Appends the response: JSON, then the raw bytes of binary outputs in order. json_bytes: length of the JSON part.
// `r` comes from read_result; `output_region` may still change under the reader, so every length in it is checked
// again. An output that is wanted and that the instance did not return is kInternal "instance_protocol_violation".
Status print_infer_response(std::string& out, std::size_t& json_bytes, bool& any_binary, std::string_view model,
                            std::string_view version, const InferRequest& rq, const Signature& sig, const SlotResult& r,
                            std::span<const std::byte> output_region);

}  // namespace mayfly
