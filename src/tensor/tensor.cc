#include "tensor/tensor.h"

#include <fmt/ranges.h>

namespace mayfly {
namespace {

struct DtypeInfo {
  std::string_view name;
  std::size_t size;
};
// In the order of Dtype.
constexpr std::array<DtypeInfo, kDtypeCount> kDtypes = {{{"", 0},
                                                         {"BOOL", 1},
                                                         {"UINT8", 1},
                                                         {"UINT16", 2},
                                                         {"UINT32", 4},
                                                         {"UINT64", 8},
                                                         {"INT8", 1},
                                                         {"INT16", 2},
                                                         {"INT32", 4},
                                                         {"INT64", 8},
                                                         {"FP16", 2},
                                                         {"FP32", 4},
                                                         {"FP64", 8},
                                                         {"BF16", 2},
                                                         {"BYTES", 0}}};

int index_of(const std::vector<TensorSpec>& specs, std::string_view name) {
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace

std::string_view dtype_name(Dtype t) {
  const auto i = static_cast<std::size_t>(t);
  return i > 0 && i < kDtypes.size() ? kDtypes[i].name : std::string_view("INVALID");
}

Dtype dtype_from_name(std::string_view name) {
  for (std::size_t i = 1; i < kDtypes.size(); ++i) {
    if (kDtypes[i].name == name) return static_cast<Dtype>(i);
  }
  return Dtype::kInvalid;
}

std::size_t dtype_size(Dtype t) {
  const auto i = static_cast<std::size_t>(t);
  return i < kDtypes.size() ? kDtypes[i].size : 0;
}

std::optional<std::uint64_t> element_count(const Shape& s) {
  // A zero anywhere makes the count zero, but a negative dimension is an error whatever the others are.
  std::uint64_t n = 1;
  bool overflow = false, zero = false;
  for (const std::int64_t d : s.view()) {
    if (d < 0) return std::nullopt;
    zero = zero || d == 0;
    overflow = __builtin_mul_overflow(n, static_cast<std::uint64_t>(d), &n) || overflow;
  }
  if (zero) return 0;
  if (overflow) return std::nullopt;
  return n;
}

std::string to_string(const Shape& s) { return fmt::format("[{}]", fmt::join(s.view(), ",")); }

int Signature::input_index(std::string_view name) const { return index_of(inputs, name); }
int Signature::output_index(std::string_view name) const { return index_of(outputs, name); }

}  // namespace mayfly
