// Dtypes, shapes and model signatures: the vocabulary of the Open Inference Protocol. Values; no I/O.
//
// Tensors in memory are row-major and little-endian. A BYTES tensor is a run of elements, each a 4-byte little-endian
// length and that many bytes (the binary tensor extension's layout); BOOL is one byte, 0 or 1.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

enum class Dtype : std::uint8_t {
  kInvalid = 0,
  kBool,
  kUint8,
  kUint16,
  kUint32,
  kUint64,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFp16,
  kFp32,
  kFp64,
  kBf16,
  kBytes,
};
inline constexpr std::uint8_t kDtypeCount = 15;

std::string_view dtype_name(Dtype t);          // "FP32"
Dtype dtype_from_name(std::string_view name);  // kInvalid if unknown
std::size_t dtype_size(Dtype t);               // bytes of one element; 0 for BYTES and kInvalid

inline constexpr std::size_t kMaxRank = 8;
inline constexpr std::size_t kMaxTensors = 32;  // inputs, and outputs, of one model

struct Shape {
  std::uint8_t rank = 0;
  std::array<std::int64_t, kMaxRank> dims{};  // -1: any (in a signature only)
  std::span<const std::int64_t> view() const { return {dims.data(), rank}; }
  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank != b.rank) return false;
    for (std::size_t i = 0; i < a.rank; ++i)
      if (a.dims[i] != b.dims[i]) return false;
    return true;
  }
};
// Number of elements; nullopt on overflow or a negative dimension. Rank 0 is 1.
std::optional<std::uint64_t> element_count(const Shape& s);
std::string to_string(const Shape& s);  // "[1,3,-1]"

struct TensorSpec {
  std::string name;
  Dtype dtype = Dtype::kInvalid;
  Shape shape;  // -1 where the model leaves a dimension free
};

// What a model takes and gives, in the model's own order.
struct Signature {
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  int input_index(std::string_view name) const;  // -1 if there is none
  int output_index(std::string_view name) const;
};

// {"inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}],"outputs":[…]} both ways. Reading refuses unknown dtypes,
// rank > kMaxRank, more than kMaxTensors tensors, names over 512 bytes, dimensions < -1 (the text may be hostile).
std::string signature_to_json(const Signature& s);
Result<Signature> signature_from_json(std::string_view json);

}  // namespace mayfly
