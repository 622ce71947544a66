// The Open Inference Protocol v2 in its gRPC form: ModelInferRequest is read by hand straight into a slot's input
// region, ModelInferResponse printed straight from its output region. The twin of oip.h, with its limits and the same
// reasons for the same faults (malformed_message where that has malformed_json); no protobuf object is made, and
// nothing is allocated at steady state. Values; no I/O; any thread.
//
// One message serves all four published variants (OIP, KServe, Triton, MLServer): they agree on these fields. Tensors
// come raw (raw_input_contents, one entry for each input, in order) or typed (contents), never both in one request;
// FP16 and BF16 have no typed form. Fields may come in any order, repeated numbers packed or not, and unknown fields
// are ignored. The answer is raw where the request was, and where an output has no typed form.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "worker_ipc/oip.h"

namespace mayfly {

// A ModelInferRequest as it lies in its message, which must outlive it.
struct GrpcInfer {
  // One more than a model can have: among so many, one is unknown or a duplicate.
  static constexpr std::size_t kMaxEntries = kMaxTensors + 1;
  std::string_view model_name, model_version, id;
  std::uint64_t timeout_us = 0;  // parameter "timeout", as Triton has it; 0: none
  std::uint64_t priority = 0;    // parameter "priority"; 0: the default
  bool enable_empty_final_response = false;
  std::uint32_t inputs = 0, outputs = 0, raws = 0;  // how many there are, even beyond kMaxEntries
  std::array<std::string_view, kMaxEntries> input, output, raw;
};

// Finds the parts of a message. Errors: malformed_message, invalid_value (an id over kMaxRequestIdBytes, a parameter of
// the wrong kind).
Status scan_infer_grpc(std::string_view message, GrpcInfer& out);

// Like parse_infer; `out.binary_output_default` says whether the answer is raw.
Status parse_infer_grpc(const GrpcInfer& message, const Signature& sig, SlotRequest& rq, InputArea& area,
                        InferRequest& out);

enum class FinalMark : std::uint8_t { kNone, kFinal };  // kFinal: with Triton's parameter "triton_final_response": true

// Appends a ModelInferResponse, as print_infer_response does in JSON. response_too_large: it passes kMaxGrpcMessage.
Status print_infer_grpc(std::string& out, std::string_view model, std::string_view version, const InferRequest& rq,
                        const Signature& sig, const SlotResult& r, std::span<const std::byte> output_region,
                        FinalMark mark = FinalMark::kNone);

inline constexpr std::uint64_t kMaxGrpcMessage = (1ULL << 31) - 1;  // what protobuf's readers take

}  // namespace mayfly
