// How the rows of several requests share one slot: each input of the model has a place of its own in the input region,
// with room for `max_rows` rows, so that a request's rows are parsed to where the model reads them. Values; no I/O.
#pragma once
#include <cstdint>

#include "tensor/tensor.h"
#include "worker_ipc/arena.h"

namespace mayfly {

struct BatchPlan {
  std::uint32_t max_rows = 0;                 // 0 or 1: requests of this version run one by one
  std::uint64_t row_bytes[kMaxTensors] = {};  // of each input of the signature
  std::uint64_t offset[kMaxTensors] = {};     // of each input in the region, a multiple of kTensorAlign
  explicit operator bool() const { return max_rows > 1; }
};

// Whether a model can be given rows of several requests at once, by its signature: every input and output has a free
// first dimension, all else of every input is fixed, and nothing is BYTES. That rows do not influence each other is not
// in the signature: the compile job tries it.
bool has_batch_dimension(const Signature& sig);
// The plan for at most `max_rows` rows, as many as fit the regions (bytes); none if that is one row, or the signature
// has no batch dimension.
BatchPlan plan_batch(const Signature& sig, std::uint32_t max_rows, std::uint64_t input_capacity,
                     std::uint64_t output_capacity);

}  // namespace mayfly
