// The classification extension: scores become the best "score:index" strings of each row. Internal to the codecs.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "tensor/tensor.h"

namespace mayfly {

// The best k of each row of the last dimension of a floating point tensor, as a BYTES tensor; changes `shape` and
// `count` to those of it. Equal scores keep their order; NaN ranks last.
std::string classify(Dtype dtype, std::span<const std::byte> data, std::uint32_t k, Shape& shape, std::uint64_t& count);

}  // namespace mayfly
