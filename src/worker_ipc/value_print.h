// Printing the elements of output tensors as JSON, for all dialects. The memory may belong to an instance that is
// writing to it now: values are loaded once, and lengths in it are bounded before they are used. Appends to the
// caller's string.
//
// Floats are the shortest text that reads back to the same value, with a ".0" where they are integral; NaN, Infinity
// and -Infinity stand as such (what Python's json and TensorFlow Serving read), although JSON has none.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"
#include "worker_ipc/arena.h"

namespace mayfly {

enum class BytesForm : std::uint8_t { kString, kBase64 };  // "…" or {"b64": "…"}

// The next `count` elements of `rest`, separated by commas; `rest` moves on. Fixed-size dtypes need that many bytes in
// it.
void append_elements(std::string& out, Dtype t, std::span<const std::byte>& rest, std::uint64_t count,
                     BytesForm form = BytesForm::kString);

// The next tensor of these dimensions as nested arrays; of none, as one element. A tensor without elements whose outer
// dimensions are absurd is printed as [].
void append_nested(std::string& out, Dtype t, std::span<const std::int64_t> dims, std::span<const std::byte>& rest,
                   BytesForm form = BytesForm::kString);

// Element i of a floating point tensor; half types widen exactly.
double float_at(Dtype t, const std::byte* data, std::uint64_t i);

// The best `keep` of the `count` scores that begin at element `first`, best first: the score and its place in the row.
// Equal scores keep their order; NaN ranks last. `order` is reused between rows, and has at least `keep` entries
// afterwards.
using Ranking = std::vector<std::pair<double, std::uint64_t>>;
void rank_scores(Dtype t, const std::byte* data, std::uint64_t first, std::uint64_t count, std::uint64_t keep,
                 Ranking& order);

// One output of a checked result (read_result), where it lies in the output region.
struct OutputView {
  std::string_view name;
  Dtype dtype = Dtype::kInvalid;
  Shape shape;
  std::uint64_t count = 0;  // elements
  std::span<const std::byte> data;
};
// Output `index` of the signature; instance_protocol_violation if the instance answered without it.
Result<OutputView> view_output(const Signature& sig, const SlotResult& r, std::span<const std::byte> region,
                               std::uint32_t index);

}  // namespace mayfly
