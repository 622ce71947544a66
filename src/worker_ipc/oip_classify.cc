#include "worker_ipc/oip_classify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tensor/bytes.h"

namespace mayfly {

std::string classify(OutputView& t, std::uint32_t k) {
  const std::uint64_t row = t.shape.rank == 0 ? 1 : static_cast<std::uint64_t>(t.shape.dims[t.shape.rank - 1U]);
  const std::uint64_t keep = std::min<std::uint64_t>(k, row);
  const std::uint64_t rows = row == 0 ? 0 : t.count / row;
  Ranking order;
  std::string made;
  for (std::uint64_t r = 0; r < rows; ++r) {
    rank_scores(t.dtype, t.data.data(), r * row, row, keep, order);
    for (std::uint64_t i = 0; i < keep; ++i) {
      const std::string text = fmt::format("{:f}:{}", order[i].first, order[i].second);
      const auto length = static_cast<std::uint32_t>(text.size());
      char prefix[kBytesPrefix];
      std::memcpy(prefix, &length, kBytesPrefix);
      made.append(prefix, kBytesPrefix).append(text);
    }
  }
  t.data = {};
  t.dtype = Dtype::kBytes;
  t.count = rows * keep;
  if (t.shape.rank == 0) t.shape.rank = 1;
  t.shape.dims[t.shape.rank - 1U] = static_cast<std::int64_t>(keep);
  return made;
}

}  // namespace mayfly
