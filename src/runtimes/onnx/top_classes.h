// The best entries of a row of scores. Pure functions; scores of FP16, FP32 or FP64 become f32.
// Ties go to the smaller index; NaN counts as less than everything.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "tensor/half.h"
#include "tensor/tensor.h"
#include "worker_ipc/arena.h"

namespace mayfly {

template <typename T, typename F>
void read_scores_as(std::span<const std::byte> data, std::vector<TopClass>& out, F convert) {
  out.resize(data.size() / sizeof(T));
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
    out[i] = {static_cast<std::uint32_t>(i), convert(value)};
  }
}

// False for any other dtype.
inline bool read_scores(Dtype dtype, std::span<const std::byte> data, std::vector<TopClass>& out) {
  switch (dtype) {
    case Dtype::kFp32:
      read_scores_as<float>(data, out, [](float v) { return v; });
      return true;
    case Dtype::kFp64:
      read_scores_as<double>(data, out, [](double v) { return static_cast<float>(v); });
      return true;
    case Dtype::kFp16:
      read_scores_as<std::uint16_t>(data, out, float_from_half);
      return true;
    default:
      return false;
  }
}

// Writes the best min(k, scores) of them, best first; reorders `scores`.
inline std::uint32_t top_classes(std::vector<TopClass>& scores, std::uint32_t k, TopClass* out) {
  const std::size_t n = std::min<std::size_t>(k, scores.size());
  auto better = [](const TopClass& a, const TopClass& b) {
    const bool a_nan = std::isnan(a.score), b_nan = std::isnan(b.score);
    if (a_nan != b_nan) return b_nan;
    if (!a_nan && a.score != b.score) return a.score > b.score;
    return a.index < b.index;
  };
  std::partial_sort(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(n), scores.end(), better);
  std::copy_n(scores.begin(), n, out);
  return static_cast<std::uint32_t>(n);
}

}  // namespace mayfly
