#include "tensor/json.h"
#include "worker_ipc/v1.h"
#include "worker_ipc/value_print.h"

namespace mayfly {
namespace {

struct Output {
  const TensorSpec* spec = nullptr;
  std::span<const std::int64_t> dims;
  std::span<const std::byte> rest;
  BytesForm form = BytesForm::kString;
};

// All outputs of the model, in its order.
Result<std::vector<Output>> outputs_of(const Signature& sig, const SlotResult& r, std::span<const std::byte> region) {
  std::vector<Output> out;
  out.reserve(sig.outputs.size());
  for (std::uint32_t i = 0; i < sig.outputs.size(); ++i) {
    const TensorRef* ref = find_output(r, i);
    if (ref == nullptr) return missing_output(sig.outputs[i].name);
    const bool base64 = sig.outputs[i].name.ends_with("_bytes");
    out.push_back({&sig.outputs[i],
                   {ref->dims, ref->rank},
                   region.subspan(ref->offset, ref->bytes),
                   base64 ? BytesForm::kBase64 : BytesForm::kString});
  }
  return out;
}

Status check_batched(const std::vector<Output>& outputs, std::uint64_t rows) {
  for (const Output& o : outputs) {
    if (!o.dims.empty() && static_cast<std::uint64_t>(o.dims[0]) == rows) continue;
    Shape shape;
    shape.rank = static_cast<std::uint8_t>(o.dims.size());
    std::copy(o.dims.begin(), o.dims.end(), shape.dims.begin());
    return invalid(
        "not_batched",
        "output \"{}\" has shape {}, which is not one row for each of the {} of the request; ask in the column "
        "form, {{\"inputs\": …}}",
        o.spec->name, to_string(shape), rows);
  }
  return Ok{};
}

// One value of each output: what is left of `dims` after the first `skip`.
void print_named(std::string& out, std::vector<Output>& outputs, std::size_t skip) {
  const bool named = outputs.size() != 1;
  if (named) out += '{';
  for (Output& o : outputs) {
    if (named) {
      if (&o != outputs.data()) out += ',';
      append_json_string(out, o.spec->name);
      out += ':';
    }
    append_nested(out, o.spec->dtype, o.dims.subspan(skip), o.rest, o.form);
  }
  if (named) out += '}';
}

}  // namespace

Status print_v1_response(std::string& out, const V1Request& rq, const Signature& sig, const SlotResult& r,
                         std::span<const std::byte> output_region) {
  auto outputs = outputs_of(sig, r, output_region);
  if (!outputs.ok()) return std::move(outputs.error());
  if (rq.form == V1Form::kColumns) {
    out += "{\"outputs\":";
    print_named(out, *outputs, 0);
    out += '}';
    return Ok{};
  }
  MAYFLY_TRY(check_batched(*outputs, rq.rows));
  out += "{\"predictions\":[";
  for (std::uint64_t i = 0; i < rq.rows; ++i) {
    if (i > 0) out += ',';
    print_named(out, *outputs, 1);
  }
  out += "]}";
  return Ok{};
}

}  // namespace mayfly
