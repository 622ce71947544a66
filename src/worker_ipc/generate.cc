#include "worker_ipc/generate.h"

#include <cstring>

#include "tensor/json.h"
#include "worker_ipc/json_walk.h"
#include "worker_ipc/oip.h"
#include "worker_ipc/oip_data.h"
#include "worker_ipc/value_print.h"

namespace mayfly {
namespace {

using namespace json_walk;

// The shape of `count` elements of an input: free dimensions are 1, but the last takes what there is.
std::optional<Shape> fill_shape(const Shape& spec, std::uint64_t count) {
  Shape out = spec;
  int last_free = -1;
  std::uint64_t fixed = 1;
  for (std::size_t i = 0; i < spec.rank; ++i) {
    if (spec.dims[i] >= 0) {
      fixed *= static_cast<std::uint64_t>(spec.dims[i]);
      continue;
    }
    out.dims[i] = 1;
    last_free = static_cast<int>(i);
  }
  if (last_free >= 0 && fixed > 0 && count % fixed == 0) {
    out.dims[static_cast<std::size_t>(last_free)] = static_cast<std::int64_t>(count / fixed);
    return out;
  }
  return fixed == count && last_free < 0 ? std::optional(out) : std::nullopt;
}

bool fits(const Shape& got, const Shape& want) {
  bool ok = got.rank == want.rank;
  for (std::size_t i = 0; ok && i < got.rank; ++i) ok = want.dims[i] == -1 || want.dims[i] == got.dims[i];
  return ok;
}

Status place(od::value v, const TensorSpec& spec, std::uint32_t index, SlotRequest& rq, InputArea& area) {
  const char* text = nullptr;
  MAYFLY_TRY(text_of(v, spec.name, text));
  auto data = parse_nested_data(text, spec.name, spec.name, spec.dtype, area.room(index));
  if (!data.ok()) return std::move(data.error());
  const char* const end = skip_space(data->end);
  if (*end != ',' && *end != '}') {
    return invalid("malformed_json", "\"{}\" goes on after its value with \"{}\"", spec.name, std::string_view(end, 1));
  }
  Shape shape = data->shape;
  if (!fits(shape, spec.shape)) {
    const auto filled = fill_shape(spec.shape, element_count(shape).value_or(0));
    if (!filled) {
      return invalid("tensor_shape_mismatch", "\"{}\" has values of shape {}; expected {} (-1: any size)", spec.name,
                     to_string(shape), to_string(spec.shape));
    }
    shape = *filled;
  }
  TensorRef& ref = rq.inputs[rq.input_count++];
  ref = TensorRef{};
  ref.index = index;
  ref.dtype = static_cast<std::uint8_t>(spec.dtype);
  ref.rank = shape.rank;
  std::memcpy(ref.dims, shape.dims.data(), sizeof(ref.dims));
  ref.bytes = data->bytes;
  ref.offset = area.take(index, data->bytes);
  return Ok{};
}

Status read_id(od::value v, std::string& id) {
  std::string_view text;
  MAYFLY_TRY(read(v, "id", text));
  if (text.size() > kMaxRequestIdBytes) {
    return invalid("invalid_value", "\"id\" has {} bytes; the limit is {}", text.size(), kMaxRequestIdBytes);
  }
  id = text;
  return Ok{};
}

}  // namespace

Status parse_generate(std::string_view body, const Signature& sig, SlotRequest& rq, InputArea& area, std::string& id) {
  if (body.empty())
    return invalid("malformed_json", "the request is empty; expected an object with the model's inputs");
  rq.kind = RequestKind::kTensors;
  rq.input_count = 0;
  rq.raw_bytes = 0;
  rq.output_mask = ~std::uint64_t{0};
  id.clear();
  std::uint64_t seen = 0;
  thread_local ParseBuffer buffer;
  buffer.load(body);
  Status walked = each_field_of_body(buffer, body.size(), [&](std::string_view key, od::value v) -> Status {
    const int index = sig.input_index(key);
    if (index < 0) return key == "id" ? read_id(v, id) : Ok{};
    const std::uint64_t bit = std::uint64_t{1} << index;
    if ((seen & bit) != 0) return invalid("duplicate_tensor", "input \"{}\" appears twice; expected once", key);
    seen |= bit;
    return place(v, sig.inputs[static_cast<std::size_t>(index)], static_cast<std::uint32_t>(index), rq, area);
  });
  buffer.trim();
  MAYFLY_TRY(std::move(walked));
  for (std::size_t i = 0; i < sig.inputs.size(); ++i) {
    if ((seen >> i & 1) != 0) continue;
    return invalid("missing_tensor", "input \"{}\" is missing; expected {} {}", sig.inputs[i].name,
                   dtype_name(sig.inputs[i].dtype), to_string(sig.inputs[i].shape));
  }
  return Ok{};
}

Status print_generate_response(std::string& out, std::string_view model, std::string_view version, std::string_view id,
                               const Signature& sig, const SlotResult& r, std::span<const std::byte> output_region) {
  out += '{';
  if (!id.empty()) {
    out += "\"id\":";
    append_json_string(out, id);
    out += ',';
  }
  out += "\"model_name\":";
  append_json_string(out, model);
  out += ",\"model_version\":";
  append_json_string(out, version);
  for (std::uint32_t i = 0; i < sig.outputs.size(); ++i) {
    auto view = view_output(sig, r, output_region, i);
    if (!view.ok()) return std::move(view.error());
    out += ',';
    append_json_string(out, view->name);
    out += view->count == 1 ? ":" : ":[";
    append_elements(out, view->dtype, view->data, view->count);
    if (view->count != 1) out += ']';
  }
  out += '}';
  return Ok{};
}

}  // namespace mayfly
