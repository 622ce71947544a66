// Internal to the codecs of the Open Inference Protocol: what a tensor of a request must satisfy, in whichever form it
// came. All errors are kInvalidArgument with the reasons that oip.h lists. Values; no I/O.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tensor/tensor.h"

namespace mayfly {

inline std::string_view shown(std::string_view s) { return s.substr(0, 200); }  // a caller's text in a message: bounded

std::string names_of(const std::vector<TensorSpec>& specs);  // for messages: "a", "b"

// The index of input `name`; marks it in `seen`. unknown_tensor, duplicate_tensor.
Result<std::uint32_t> find_input(const Signature& sig, std::string_view name, std::uint64_t& seen);
// The index of output `name`; marks it in `seen`. unknown_tensor, duplicate_tensor; invalid_value: classification > 0
// of an output that is no floating point tensor, or above kMaxClassification.
Result<std::uint32_t> find_output(const Signature& sig, std::string_view name, std::uint64_t classification,
                                  std::uint64_t& seen);
// datatype_mismatch, tensor_shape_mismatch.
Status check_input_type(std::string_view name, std::string_view datatype, const Shape& shape, const TensorSpec& spec);
// The number of elements; payload_too_large where `room` can't hold them. `area`: bytes for all inputs, for the
// message.
Result<std::uint64_t> check_input_room(std::string_view name, const Shape& shape, Dtype dtype,
                                       std::span<const std::byte> room, std::uint64_t area);
// Whether `bytes` are `count` elements of the type, of a right size already where it is fixed. tensor_size_mismatch
// (BYTES), invalid_value (a BOOL that is neither 0 nor 1).
Status check_raw_elements(std::string_view name, Dtype dtype, std::uint64_t count, std::span<const std::byte> bytes);
// Copies the raw bytes of an input of `count` elements into `room`. tensor_size_mismatch, payload_too_large,
// invalid_value (a BOOL that is neither 0 nor 1).
Status copy_raw_input(std::string_view name, const Shape& shape, Dtype dtype, std::uint64_t count,
                      std::span<const std::byte> from, std::span<std::byte> room);
// missing_tensor
Status check_all_inputs(const Signature& sig, std::uint64_t seen);

}  // namespace mayfly
