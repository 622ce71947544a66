#include "tensor/json.h"
#include "worker_ipc/v1.h"
#include "worker_ipc/value_print.h"

namespace mayfly {
namespace {

struct Output : OutputView {  // `data` is what is not printed yet
  BytesForm form = BytesForm::kString;
};

// All outputs of the model, in its order.
Result<std::vector<Output>> outputs_of(const Signature& sig, const SlotResult& r, std::span<const std::byte> region) {
  std::vector<Output> out;
  out.reserve(sig.outputs.size());
  for (std::uint32_t i = 0; i < sig.outputs.size(); ++i) {
    auto view = view_output(sig, r, region, i);
    if (!view.ok()) return std::move(view.error());
    const bool base64 = view->name.ends_with("_bytes");
    out.push_back({*view, base64 ? BytesForm::kBase64 : BytesForm::kString});
  }
  return out;
}

Status check_batched(const std::vector<Output>& outputs, std::uint64_t rows) {
  for (const Output& o : outputs) {
    if (o.shape.rank > 0 && static_cast<std::uint64_t>(o.shape.dims[0]) == rows) continue;
    return invalid(
        "not_batched",
        "output \"{}\" has shape {}, which is not one row for each of the {} of the request; ask in the column "
        "form, {{\"inputs\": …}}",
        o.name, to_string(o.shape), rows);
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
      append_json_string(out, o.name);
      out += ':';
    }
    append_nested(out, o.dtype, o.shape.view().subspan(skip), o.data, o.form);
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
