#include "worker_ipc/batch_plan.h"

#include <algorithm>

namespace mayfly {
namespace {

// Bytes of one row, with a free dimension counted as 1.
std::uint64_t bytes_of_row(const TensorSpec& t) {
  Shape row = t.shape;
  for (std::size_t i = 0; i < row.rank; ++i) {
    if (row.dims[i] == -1) row.dims[i] = 1;
  }
  return element_count(row).value_or(~0ULL >> 8) * dtype_size(t.dtype);
}

bool has_free_rows(const TensorSpec& t) {
  return t.dtype != Dtype::kBytes && t.shape.rank > 0 && t.shape.dims[0] == -1;
}

bool has_fixed_rows(const TensorSpec& t) {
  const auto rest = t.shape.view().subspan(1);
  return std::all_of(rest.begin(), rest.end(), [](std::int64_t d) { return d > 0; });
}

}  // namespace

bool has_batch_dimension(const Signature& sig) {
  return !sig.inputs.empty() && !sig.outputs.empty() &&
         std::all_of(sig.inputs.begin(), sig.inputs.end(),
                     [](const auto& t) { return has_free_rows(t) && has_fixed_rows(t); }) &&
         std::all_of(sig.outputs.begin(), sig.outputs.end(), has_free_rows);
}

BatchPlan plan_batch(const Signature& sig, std::uint32_t max_rows, std::uint64_t input_capacity,
                     std::uint64_t output_capacity) {
  BatchPlan plan;
  if (max_rows < 2 || !has_batch_dimension(sig)) return plan;
  // Each tensor is rounded up to kTensorAlign, once for all its rows.
  const auto rows_in = [](const std::vector<TensorSpec>& tensors, std::uint64_t capacity) {
    const std::uint64_t lost = tensors.size() * kTensorAlign;
    std::uint64_t row = 0;
    for (const TensorSpec& t : tensors) row += bytes_of_row(t);
    return capacity <= lost ? 0 : (capacity - lost) / std::max<std::uint64_t>(row, 1);
  };
  const std::uint64_t rows =
      std::min({std::uint64_t{max_rows}, rows_in(sig.inputs, input_capacity), rows_in(sig.outputs, output_capacity)});
  if (rows < 2) return plan;
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < sig.inputs.size(); ++i) {
    plan.row_bytes[i] = bytes_of_row(sig.inputs[i]);
    plan.offset[i] = at;
    at = align_tensor(at + rows * plan.row_bytes[i]);
  }
  plan.max_rows = static_cast<std::uint32_t>(rows);
  return plan;
}

}  // namespace mayfly
