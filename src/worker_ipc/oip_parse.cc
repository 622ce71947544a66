// parse_infer: walks the request with simdjson's on-demand parser, takes the text of each "data" array as it lies and
// hands it to oip_data.cc once the whole input object is known (its keys come in any order).
#include <cstring>

#include "worker_ipc/json_walk.h"
#include "worker_ipc/oip.h"
#include "worker_ipc/oip_checks.h"
#include "worker_ipc/oip_data.h"

namespace mayfly {
namespace {

using namespace json_walk;

// Takes one of the parameters shared_memory_region, shared_memory_byte_size, shared_memory_offset.
Status read_place(std::string_view key, od::value v, SharedPlace& out) {
  if (key == "shared_memory_byte_size") return read(v, "shared_memory_byte_size", out.bytes);
  if (key == "shared_memory_offset") return read(v, "shared_memory_offset", out.offset);
  if (key != "shared_memory_region") return Ok{};
  std::string_view name;
  MAYFLY_TRY(read(v, "shared_memory_region", name));
  if (name.empty()) return invalid("invalid_value", "shared_memory_region is empty; expected the name of a region");
  out.region = name;
  return Ok{};
}

// One input object as found; the views point into the parser's buffers, which live until the next request.
struct InputText {
  std::string_view name;
  std::string_view datatype;
  std::string_view data;
  Shape shape;
  std::uint64_t binary_bytes = 0;
  bool has_name = false, has_datatype = false, has_shape = false, has_data = false, has_binary = false;
  SharedPlace shared;
};

class InferParser {
 public:
  InferParser(const Signature& sig, SlotRequest& rq, InputArea& area, std::string_view tail, InferRequest& out)
      : sig_(sig), rq_(rq), area_(area), tail_(tail), out_(out) {}

  Status run(ParseBuffer& buffer, std::size_t length) {
    MAYFLY_TRY(each_field_of_body(buffer, length, [&](std::string_view key, od::value v) { return member(key, v); }));
    return finish();
  }

 private:
  Status member(std::string_view key, od::value v) {
    if (key == "id") return read_id(v);
    if (key == "inputs") return each_element(v, "inputs", [&](od::value i) { return input(i); });
    if (key == "outputs") return each_element(v, "outputs", [&](od::value o) { return output(o); });
    if (key == "parameters") {
      return each_member(v, "parameters", [&](std::string_view k, od::value p) -> Status {
        if (k == "binary_data_output") return read(p, "parameters.binary_data_output", out_.binary_output_default);
        if (k == "priority") return read(p, "parameters.priority", out_.priority);
        if (k == "timeout") return read(p, "parameters.timeout", out_.timeout_us);
        return Ok{};
      });
    }
    return Ok{};
  }

  Status read_id(od::value v) {
    std::string_view id;
    MAYFLY_TRY(read(v, "id", id));
    if (id.size() > kMaxRequestIdBytes) {
      return invalid("invalid_value", "\"id\" has {} bytes; the limit is {}", id.size(), kMaxRequestIdBytes);
    }
    out_.id = id;
    return Ok{};
  }

  Status input(od::value v) {
    InputText in;
    MAYFLY_TRY(each_member(v, "inputs", [&](std::string_view k, od::value m) { return input_member(k, m, in); }));
    return place(in);
  }

  static Status input_member(std::string_view key, od::value v, InputText& in) {
    if (key == "name") {
      in.has_name = true;
      return read(v, "inputs.name", in.name);
    }
    if (key == "datatype") {
      in.has_datatype = true;
      return read(v, "inputs.datatype", in.datatype);
    }
    if (key == "shape") return read_shape(v, in);
    if (key == "data") {
      od::array array;
      if (auto e = v.get_array().get(array)) return json_error(e, "inputs.data");
      in.has_data = true;
      if (auto e = array.raw_json().get(in.data)) return json_error(e, "inputs.data");
      return Ok{};
    }
    if (key == "parameters") {
      return each_member(v, "inputs.parameters", [&](std::string_view k, od::value p) -> Status {
        if (k.starts_with("shared_memory_")) return read_place(k, p, in.shared);
        if (k != "binary_data_size") return Ok{};
        in.has_binary = true;
        return read(p, "inputs.parameters.binary_data_size", in.binary_bytes);
      });
    }
    return Ok{};
  }

  static Status read_shape(od::value v, InputText& in) {
    in.has_shape = true;
    in.shape = Shape{};
    return each_element(v, "inputs.shape", [&](od::value d) -> Status {
      if (in.shape.rank == kMaxRank) {
        return invalid("tensor_shape_mismatch", "input \"{}\": more than {} dimensions", shown(in.name), kMaxRank);
      }
      return read(d, "inputs.shape", in.shape.dims[in.shape.rank++]);
    });
  }

  // Checks an input against the signature and writes its elements into the region.
  Status place(const InputText& in) {
    if (!in.has_name) return invalid("invalid_value", "an entry of \"inputs\" has no \"name\"");
    auto index = find_input(sig_, in.name, seen_);
    if (!index.ok()) return std::move(index.error());
    const TensorSpec& spec = sig_.inputs[*index];
    if (!in.has_datatype || !in.has_shape) {
      return invalid("invalid_value", "input \"{}\": \"datatype\" and \"shape\" are required", in.name);
    }
    MAYFLY_TRY(check_input_type(in.name, in.datatype, in.shape, spec));
    TensorRef& ref = rq_.inputs[rq_.input_count];
    ref = TensorRef{};
    ref.index = *index;
    ref.dtype = static_cast<std::uint8_t>(spec.dtype);
    ref.rank = in.shape.rank;
    std::memcpy(ref.dims, in.shape.dims.data(), sizeof(ref.dims));
    MAYFLY_TRY(fill(in, spec, ref));
    ++rq_.input_count;
    return Ok{};
  }

  Status fill(const InputText& in, const TensorSpec& spec, TensorRef& ref) {
    if (int{in.has_data} + int{in.has_binary} + int{bool{in.shared}} != 1) {
      return invalid("invalid_value",
                     "input \"{}\": expected one of \"data\", parameters.binary_data_size and "
                     "parameters.shared_memory_region, got {}",
                     in.name, in.has_data || in.has_binary ? "several" : "none");
    }
    const std::span<std::byte> room = area_.room(ref.index);
    auto count = check_input_room(in.name, in.shape, spec.dtype, room, area_.size());
    if (!count.ok()) return std::move(count.error());
    if (in.has_data) {
      auto bytes = parse_json_data(in.data, in.name, spec.dtype, *count, room);
      if (!bytes) return std::move(bytes.error());
      ref.bytes = *bytes;
    } else if (in.shared) {
      MAYFLY_TRY(read_shared_input(out_.shared_memory, in.shared, in.name, in.shape, spec.dtype, *count, room));
      ref.bytes = in.shared.bytes;
    } else {
      MAYFLY_TRY(take_binary(in, spec, *count, room));
      ref.bytes = in.binary_bytes;
    }
    ref.offset = area_.take(ref.index, ref.bytes);
    return Ok{};
  }

  Status take_binary(const InputText& in, const TensorSpec& spec, std::uint64_t count, std::span<std::byte> room) {
    const std::uint64_t n = in.binary_bytes;
    if (n > tail_.size()) {
      return invalid("tensor_size_mismatch", "input \"{}\": binary_data_size is {}; only {} bytes follow the JSON",
                     in.name, n, tail_.size());
    }
    MAYFLY_TRY(check_said_bytes(in.name, "binary_data_size", n, in.shape, spec.dtype, count, room));
    const auto from = std::as_bytes(std::span(tail_.data(), n));
    MAYFLY_TRY(check_raw_elements(in.name, spec.dtype, count, from));
    if (n > 0) std::memcpy(room.data(), from.data(), n);
    tail_.remove_prefix(n);
    return Ok{};
  }

  Status output(od::value v) {
    InferRequest::Out o;
    std::string_view name;
    std::uint64_t classification = 0;
    bool has_name = false;
    MAYFLY_TRY(each_member(v, "outputs", [&](std::string_view k, od::value m) -> Status {
      if (k == "name") {
        has_name = true;
        return read(m, "outputs.name", name);
      }
      if (k != "parameters") return Ok{};
      return each_member(m, "outputs.parameters", [&](std::string_view pk, od::value p) -> Status {
        if (pk.starts_with("shared_memory_")) return read_place(pk, p, o.shared);
        if (pk == "classification") return read(p, "outputs.parameters.classification", classification);
        if (pk != "binary_data") return Ok{};
        bool binary = false;
        MAYFLY_TRY(read(p, "outputs.parameters.binary_data", binary));
        o.binary = binary;
        return Ok{};
      });
    }));
    if (!has_name) return invalid("invalid_value", "an entry of \"outputs\" has no \"name\"");
    auto index = find_output(sig_, name, classification, mask_);
    if (!index.ok()) return std::move(index.error());
    if (o.shared) MAYFLY_TRY(check_shared_output(out_.shared_memory, o.shared, name));
    o.index = *index;
    o.classification = static_cast<std::uint32_t>(classification);
    out_.outputs.push_back(std::move(o));
    return Ok{};
  }

  Status finish() {
    MAYFLY_TRY(check_all_inputs(sig_, seen_));
    if (!tail_.empty()) {
      return invalid("tensor_size_mismatch", "{} bytes after the JSON belong to no input; expected none", tail_.size());
    }
    rq_.output_mask = out_.outputs.empty() ? ~std::uint64_t{0} : mask_;
    return Ok{};
  }

  const Signature& sig_;
  SlotRequest& rq_;
  InputArea& area_;
  std::string_view tail_;  // binary data not taken yet
  InferRequest& out_;
  std::uint64_t seen_ = 0;  // inputs, by index
  std::uint64_t mask_ = 0;  // outputs, by index
};

}  // namespace

Status parse_infer(std::string_view body, std::optional<std::uint64_t> inference_header_content_length,
                   const Signature& sig, SlotRequest& rq, InputArea& area, InferRequest& out) {
  const std::uint64_t header = inference_header_content_length.value_or(body.size());
  if (header > body.size()) {
    return invalid("malformed_json", "Inference-Header-Content-Length is {}; the body has only {} bytes", header,
                   body.size());
  }
  if (header == 0) return invalid("malformed_json", "the request's JSON is empty; expected an object with \"inputs\"");
  rq.kind = RequestKind::kTensors;
  rq.input_count = 0;
  rq.raw_bytes = 0;
  out.clear();
  thread_local ParseBuffer buffer;
  buffer.load(body.substr(0, header));
  Status s = InferParser(sig, rq, area, body.substr(header), out).run(buffer, header);
  buffer.trim();
  return s;
}

}  // namespace mayfly
