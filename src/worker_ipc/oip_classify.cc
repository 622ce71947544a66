#include "worker_ipc/oip_classify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/bytes.h"
#include "worker_ipc/value_print.h"

namespace mayfly {
std::string classify(Dtype dtype, std::span<const std::byte> data, std::uint32_t k, Shape& shape,
                     std::uint64_t& count) {
  const std::uint64_t row = shape.rank == 0 ? 1 : static_cast<std::uint64_t>(shape.dims[shape.rank - 1U]);
  const std::uint64_t keep = std::min<std::uint64_t>(k, row);
  const std::uint64_t rows = row == 0 ? 0 : count / row;
  std::vector<std::pair<double, std::uint64_t>> order(row == 0 || rows == 0 ? 0 : row);
  std::string made;
  for (std::uint64_t r = 0; r < rows; ++r) {
    for (std::uint64_t i = 0; i < row; ++i) order[i] = {float_at(dtype, data.data(), r * row + i), i};
    const auto better = [](const auto& a, const auto& b) {
      const bool na = std::isnan(a.first), nb = std::isnan(b.first);
      if (na != nb) return nb;
      if (!na && a.first != b.first) return a.first > b.first;
      return a.second < b.second;
    };
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep), order.end(), better);
    for (std::uint64_t i = 0; i < keep; ++i) {
      const std::string text = fmt::format("{:f}:{}", order[i].first, order[i].second);
      const auto length = static_cast<std::uint32_t>(text.size());
      char prefix[kBytesPrefix];
      std::memcpy(prefix, &length, kBytesPrefix);
      made.append(prefix, kBytesPrefix).append(text);
    }
  }
  count = rows * keep;
  if (shape.rank == 0) shape.rank = 1;
  shape.dims[shape.rank - 1U] = static_cast<std::int64_t>(keep);
  return made;
}

}  // namespace mayfly
