#include "runtimes/onnx/row_check.h"

#include <cmath>
#include <cstring>

#include "tensor/half.h"
#include "worker_ipc/batch_plan.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kRows = 3;
// Kernels for one row and for several add up in different orders.
constexpr double kRelative = 2e-2, kAbsolute = 1e-3;

double number_at(Dtype t, const std::byte* p) {
  const auto load = [p]<typename T>(T v) {
    std::memcpy(&v, p, sizeof v);
    return static_cast<double>(v);
  };
  switch (t) {
    case Dtype::kFp32:
      return load(0.0F);
    case Dtype::kFp64:
      return load(0.0);
    case Dtype::kFp16:
    case Dtype::kBf16: {
      std::uint16_t h = 0;
      std::memcpy(&h, p, sizeof h);
      return static_cast<double>(t == Dtype::kFp16 ? float_from_half(h) : float_from_bf16(h));
    }
    case Dtype::kInt64:
    case Dtype::kUint64:
      return load(std::int64_t{0});
    case Dtype::kInt32:
    case Dtype::kUint32:
      return load(std::int32_t{0});
    case Dtype::kInt16:
    case Dtype::kUint16:
      return load(std::int16_t{0});
    default:
      return load(std::int8_t{0});
  }
}

// Element i of a test input: fractions for floating point, 0 and 1 for the others (a category or a token may not be
// larger).
void put_number(Dtype t, std::uint64_t i, std::byte* p) {
  const std::uint64_t mixed = (i + 1) * 0x9E3779B97F4A7C15ULL;
  const double fraction = static_cast<double>(mixed >> 40) * 0x1p-24;
  const auto store = [p](auto v) { std::memcpy(p, &v, sizeof v); };
  switch (t) {
    case Dtype::kFp32:
      return store(static_cast<float>(fraction));
    case Dtype::kFp64:
      return store(fraction);
    case Dtype::kFp16:
      return store(half_from_double(fraction));
    case Dtype::kBf16:
      return store(bf16_from_double(fraction));
    default:
      *p = std::byte{static_cast<unsigned char>(mixed >> 63)};  // little-endian, the rest is zero
  }
}

struct Tensor {
  std::vector<std::byte> data;
  std::uint64_t row_bytes = 0;
  Shape shape;  // of one row, first dimension 1
};

std::vector<Tensor> make_inputs(const Signature& sig) {
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < sig.inputs.size(); ++i) {
    Tensor& t = out.emplace_back();
    t.shape = sig.inputs[i].shape;
    t.shape.dims[0] = 1;
    const std::size_t size = dtype_size(sig.inputs[i].dtype);
    t.row_bytes = element_count(t.shape).value_or(0) * size;
    t.data.resize(t.row_bytes * kRows);
    for (std::uint64_t e = 0; e * size < t.data.size(); ++e)
      put_number(sig.inputs[i].dtype, e + i * 977, t.data.data() + e * size);
  }
  return out;
}

using Values = std::vector<OrtOwned<OrtValue>>;

Result<Values> run(const Ort& ort, const Session& s, std::vector<Tensor>& inputs, std::uint64_t first,
                   std::uint64_t rows) {
  auto memory = ort.cpu_memory();
  if (!memory.ok()) return std::move(memory.error());
  Values in, out;
  std::vector<const OrtValue*> in_raw;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Shape shape = inputs[i].shape;
    shape.dims[0] = static_cast<std::int64_t>(rows);
    const auto data = std::span(inputs[i].data).subspan(first * inputs[i].row_bytes, rows * inputs[i].row_bytes);
    auto v = ort.tensor_over(memory->get(), s.signature.inputs[i].dtype, shape, data);
    if (!v.ok()) return std::move(v.error());
    in_raw.push_back(v->get());
    in.push_back(std::move(*v));
  }
  std::vector<OrtValue*> out_raw(s.output_names.size(), nullptr);
  MAYFLY_TRY(ort.check(ort.api->Run(s.session.get(), nullptr, s.input_names.data(), in_raw.data(), in_raw.size(),
                                    s.output_names.data(), out_raw.size(), out_raw.data()),
                       "row_check_failed", "run the model"));
  for (OrtValue* v : out_raw) out.push_back(ort.own(v));
  return out;
}

struct View {
  const std::byte* data = nullptr;
  std::uint64_t rows = 0, row_bytes = 0;
};

bool view_of(const Ort& ort, OrtValue* v, Dtype dtype, View& view) {
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  if (!ort.check(ort.api->GetTensorTypeAndShape(v, &raw), "row_check_failed", "read an output").ok()) return false;
  OrtOwned<OrtTensorTypeAndShapeInfo> info(raw, {ort.api->ReleaseTensorTypeAndShapeInfo});
  std::size_t rank = 0, count = 0;
  std::int64_t dims[kMaxRank] = {};
  void* data = nullptr;
  if (!ort.check(ort.api->GetDimensionsCount(raw, &rank), "", "").ok() || rank == 0 || rank > kMaxRank) return false;
  if (!ort.check(ort.api->GetDimensions(raw, dims, rank), "", "").ok()) return false;
  if (!ort.check(ort.api->GetTensorShapeElementCount(raw, &count), "", "").ok()) return false;
  if (!ort.check(ort.api->GetTensorMutableData(v, &data), "", "").ok() || dims[0] < 1) return false;
  view.data = static_cast<const std::byte*>(data);
  view.rows = static_cast<std::uint64_t>(dims[0]);
  view.row_bytes = count * dtype_size(dtype) / view.rows;
  return true;
}

bool same_numbers(Dtype t, const std::byte* a, const std::byte* b, std::uint64_t bytes) {
  const std::size_t size = dtype_size(t);
  for (std::uint64_t i = 0; i + size <= bytes; i += size) {
    const double x = number_at(t, a + i), y = number_at(t, b + i);
    if (std::isnan(x) && std::isnan(y)) continue;
    if (!(std::abs(x - y) <= kAbsolute + kRelative * std::abs(y)) && x != y) return false;
  }
  return true;
}

}  // namespace

bool rows_are_independent(const Ort& ort, const Session& session) {
  const Signature& sig = session.signature;
  if (!has_batch_dimension(sig)) return false;
  std::vector<Tensor> inputs = make_inputs(sig);
  auto together = run(ort, session, inputs, 0, kRows);
  if (!together.ok()) return false;
  for (std::uint64_t row = 0; row < kRows; ++row) {
    auto alone = run(ort, session, inputs, row, 1);
    if (!alone.ok()) return false;
    for (std::size_t o = 0; o < sig.outputs.size(); ++o) {
      View all, one;
      const Dtype t = sig.outputs[o].dtype;
      if (!view_of(ort, (*together)[o].get(), t, all) || !view_of(ort, (*alone)[o].get(), t, one)) return false;
      if (all.rows != kRows || one.rows != 1 || all.row_bytes != one.row_bytes) return false;
      if (!same_numbers(t, all.data + row * all.row_bytes, one.data, one.row_bytes)) return false;
    }
  }
  return true;
}

}  // namespace mayfly
