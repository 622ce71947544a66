// Signatures as JSON text (tensor.h says the form). Reading treats the text as hostile: everything is bounded.
#include "tensor/json.h"
#include "tensor/json_parse.h"
#include "tensor/tensor.h"

namespace mayfly {
namespace {

using Json = nlohmann::json;
constexpr std::size_t kMaxSignatureText = 1 << 20;
constexpr std::size_t kMaxNameBytes = 512;

void append_specs(std::string& out, const std::vector<TensorSpec>& specs) {
  out += '[';
  for (const TensorSpec& t : specs) {
    if (out.back() != '[') out += ',';
    out += "{\"name\":";
    append_json_string(out, t.name);
    fmt::format_to(std::back_inserter(out), ",\"datatype\":\"{}\",\"shape\":{}}}", dtype_name(t.dtype),
                   to_string(t.shape));
  }
  out += ']';
}

Error bad(std::string_view where, std::string_view what) {
  return invalid("invalid_signature", "cannot read the signature: {}: {}", where, what);
}

Status read_shape(const Json& j, std::string_view name, Shape& shape) {
  if (!j.is_array()) return bad(name, "\"shape\" must be an array of integers");
  if (j.size() > kMaxRank) return bad(name, fmt::format("rank {} is over the limit of {}", j.size(), kMaxRank));
  for (const Json& d : j) {
    // Unsigned values above INT64_MAX would wrap to negative ones.
    const bool too_large = d.is_number_unsigned() && d.get<std::uint64_t>() > INT64_MAX;
    if (!d.is_number_integer() || too_large) return bad(name, "a dimension must be an integer, -1 for any size");
    const auto v = d.get<std::int64_t>();
    if (v < -1) return bad(name, fmt::format("dimension {} is below -1", v));
    shape.dims[shape.rank++] = v;
  }
  return Ok{};
}

Result<TensorSpec> read_spec(const Json& j, std::string_view list) {
  if (!j.is_object()) return bad(list, "each entry must be an object with name, datatype and shape");
  const auto name = j.find("name"), type = j.find("datatype"), shape = j.find("shape");
  if (name == j.end() || !name->is_string()) return bad(list, "an entry has no \"name\" string");
  TensorSpec spec;
  spec.name = name->get_ref<const std::string&>();
  if (spec.name.empty() || spec.name.size() > kMaxNameBytes) {
    return bad(list, fmt::format("a name has {} bytes, allowed are 1 to {}", spec.name.size(), kMaxNameBytes));
  }
  if (type != j.end() && type->is_string()) spec.dtype = dtype_from_name(type->get_ref<const std::string&>());
  if (spec.dtype == Dtype::kInvalid) return bad(spec.name, "\"datatype\" is missing or not one of the protocol's");
  if (shape == j.end()) return bad(spec.name, "\"shape\" is missing");
  MAYFLY_TRY(read_shape(*shape, spec.name, spec.shape));
  return spec;
}

Result<std::vector<TensorSpec>> read_specs(const Json& root, const char* list) {
  const auto it = root.find(list);
  if (it == root.end() || !it->is_array()) return bad(list, "missing or not an array");
  if (it->size() > kMaxTensors) {
    return bad(list, fmt::format("{} tensors are over the limit of {}", it->size(), kMaxTensors));
  }
  std::vector<TensorSpec> specs;
  for (const Json& j : *it) {
    auto spec = read_spec(j, list);
    if (!spec) return std::move(spec.error());
    for (const TensorSpec& other : specs) {
      if (other.name == spec->name) return bad(spec->name, "the name appears twice");
    }
    specs.push_back(std::move(*spec));
  }
  return specs;
}

}  // namespace

std::string signature_to_json(const Signature& s) {
  std::string out = "{\"inputs\":";
  append_specs(out, s.inputs);
  out += ",\"outputs\":";
  append_specs(out, s.outputs);
  out += '}';
  return out;
}

Result<Signature> signature_from_json(std::string_view json) {
  if (json.size() > kMaxSignatureText) {
    return bad("text", fmt::format("{} bytes are over the limit of {}", json.size(), kMaxSignatureText));
  }
  auto parsed = parse_json_bounded(json);
  if (!parsed.ok()) return bad("text", parsed.error().message);
  const Json& root = *parsed;
  if (!root.is_object()) return bad("text", "not a JSON object");
  Signature s;
  auto inputs = read_specs(root, "inputs");
  if (!inputs) return std::move(inputs.error());
  auto outputs = read_specs(root, "outputs");
  if (!outputs) return std::move(outputs.error());
  s.inputs = std::move(*inputs);
  s.outputs = std::move(*outputs);
  return s;
}

}  // namespace mayfly
