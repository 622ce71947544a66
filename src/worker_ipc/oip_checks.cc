#include "worker_ipc/oip_checks.h"

#include <algorithm>
#include <cstring>

#include "tensor/bytes.h"
#include "worker_ipc/oip.h"

namespace mayfly {
namespace {

bool is_float(Dtype t) { return t == Dtype::kFp16 || t == Dtype::kBf16 || t == Dtype::kFp32 || t == Dtype::kFp64; }

}  // namespace

std::string names_of(const std::vector<TensorSpec>& specs) {
  std::string s;
  for (const TensorSpec& t : specs) s += (s.empty() ? "\"" : ", \"") + t.name + "\"";
  return s.empty() ? "none" : s;
}

Result<std::uint32_t> find_input(const Signature& sig, std::string_view name, std::uint64_t& seen) {
  const int index = sig.input_index(name);
  if (index < 0) {
    return invalid("unknown_tensor", "the model has no input \"{}\"; expected: {}", shown(name), names_of(sig.inputs));
  }
  const std::uint64_t bit = std::uint64_t{1} << index;
  if ((seen & bit) != 0) return invalid("duplicate_tensor", "input \"{}\" appears twice; expected once", name);
  seen |= bit;
  return static_cast<std::uint32_t>(index);
}

Result<std::uint32_t> find_output(const Signature& sig, std::string_view name, std::uint64_t classification,
                                  std::uint64_t& seen) {
  if (classification > kMaxClassification) {
    return invalid("invalid_value", "\"classification\" is {}; the limit is {}", classification, kMaxClassification);
  }
  const int index = sig.output_index(name);
  if (index < 0) {
    return invalid("unknown_tensor", "the model has no output \"{}\"; expected: {}", shown(name),
                   names_of(sig.outputs));
  }
  const std::uint64_t bit = std::uint64_t{1} << index;
  if ((seen & bit) != 0) return invalid("duplicate_tensor", "output \"{}\" is requested twice; expected once", name);
  seen |= bit;
  const Dtype t = sig.outputs[static_cast<std::size_t>(index)].dtype;
  if (classification > 0 && !is_float(t)) {
    return invalid("invalid_value", "output \"{}\" is {}; \"classification\" expects a floating point output", name,
                   dtype_name(t));
  }
  return static_cast<std::uint32_t>(index);
}

Status check_input_type(std::string_view name, std::string_view datatype, const Shape& shape, const TensorSpec& spec) {
  if (dtype_from_name(datatype) != spec.dtype) {
    return invalid("datatype_mismatch", "input \"{}\": datatype is {}; expected {}", name, shown(datatype),
                   dtype_name(spec.dtype));
  }
  bool fits = shape.rank == spec.shape.rank;
  for (std::size_t i = 0; fits && i < shape.rank; ++i) {
    const std::int64_t got = shape.dims[i], want = spec.shape.dims[i];
    fits = want == -1 ? got >= 0 : got == want;
  }
  if (fits) return Ok{};
  return invalid("tensor_shape_mismatch", "input \"{}\": shape is {}; expected {} (-1: any size)", name,
                 to_string(shape), to_string(spec.shape));
}

Result<std::uint64_t> check_input_room(std::string_view name, const Shape& shape, Dtype dtype,
                                       std::span<const std::byte> room, std::uint64_t area) {
  const auto count = element_count(shape);
  // BYTES elements have a length each, so they too need at least a few bytes.
  const std::size_t least = dtype == Dtype::kBytes ? kBytesPrefix : std::max<std::size_t>(dtype_size(dtype), 1);
  if (count && *count <= room.size() / least) return *count;
  return invalid("payload_too_large",
                 "input \"{}\": shape {} of {} does not fit; {} of {} bytes are left for inputs of one request", name,
                 to_string(shape), dtype_name(dtype), room.size(), area);
}

Status check_raw_elements(std::string_view name, Dtype dtype, std::uint64_t count, std::span<const std::byte> bytes) {
  if (dtype == Dtype::kBytes && !bytes_well_formed(bytes, count)) {
    return invalid("tensor_size_mismatch",
                   "input \"{}\": its {} bytes are not {} elements of a 4-byte length and that many bytes", name,
                   bytes.size(), count);
  }
  if (dtype != Dtype::kBool) return Ok{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] > std::byte{1}) {
      return invalid("invalid_value", "input \"{}\": element {} is {}; expected a BOOL of 0 or 1", name, i,
                     std::to_integer<int>(bytes[i]));
    }
  }
  return Ok{};
}

Status copy_raw_input(std::string_view name, const Shape& shape, Dtype dtype, std::uint64_t count,
                      std::span<const std::byte> from, std::span<std::byte> room) {
  if (dtype != Dtype::kBytes && from.size() != count * dtype_size(dtype)) {
    return invalid("tensor_size_mismatch", "input \"{}\": its raw data has {} bytes; expected {} for shape {} of {}",
                   name, from.size(), count * dtype_size(dtype), to_string(shape), dtype_name(dtype));
  }
  if (from.size() > room.size()) {
    return invalid("payload_too_large", "input \"{}\": {} bytes do not fit; {} are left for inputs of one request",
                   name, from.size(), room.size());
  }
  MAYFLY_TRY(check_raw_elements(name, dtype, count, from));
  if (!from.empty()) std::memcpy(room.data(), from.data(), from.size());
  return Ok{};
}

Status check_all_inputs(const Signature& sig, std::uint64_t seen) {
  for (std::size_t i = 0; i < sig.inputs.size(); ++i) {
    if ((seen >> i & 1) == 0) {
      return invalid("missing_tensor", "input \"{}\" is missing; expected {} {}", sig.inputs[i].name,
                     dtype_name(sig.inputs[i].dtype), to_string(sig.inputs[i].shape));
    }
  }
  return Ok{};
}

}  // namespace mayfly
