// print_infer_grpc: raw bytes with lengths that are known beforehand, or typed elements, straight from the output
// region. The region belongs to an instance that may be writing to it now: each value is loaded once, and no length
// that depends on one is used before it is written (LengthLater).
#include <algorithm>
#include <cstring>
#include <vector>

#include "tensor/bytes.h"
#include "worker_ipc/oip_classify.h"
#include "worker_ipc/oip_grpc.h"
#include "worker_ipc/proto_wire.h"

namespace mayfly {
namespace {

constexpr std::uint32_t kModelName = 1, kModelVersion = 2, kId = 3, kParameters = 4, kOutputs = 5, kRawContents = 6;
constexpr std::uint32_t kTensorName = 1, kTensorDatatype = 2, kTensorShape = 3, kTensorParameters = 4,
                        kTensorContents = 5;
constexpr std::uint32_t kInteger = 2, kText = 3;  // of InferParameter
constexpr std::uint64_t kVarintRoom = 10;         // of one element at most

// One output to print; of one that lies in shared memory, no bytes.
struct Piece : OutputView {
  std::string_view parameters;  // as fields, where it has any
};

// The outputs of the answer, in order.
struct Pieces {
  std::array<Piece, kMaxTensors> all;
  std::size_t count = 0;
  std::vector<std::string> made;  // what the server makes itself: classes, parameters
  std::span<const Piece> view() const { return {all.data(), count}; }
};

// A map<string, InferParameter> with one entry; `choice` is the InferParameter.
void append_parameter(std::string& out, std::uint32_t map, std::string_view name, std::string_view choice) {
  append_tag(out, map, WireType::kBytes);
  append_varint(out, bytes_field_size(name.size()) + bytes_field_size(choice.size()));
  append_bytes_field(out, 1, name);
  append_bytes_field(out, 2, choice);
}

// The output goes to its place, and what is left to print says where that is.
Status share(Piece& t, const SharedPlace& to, const InferRequest& rq, std::string& parameters) {
  MAYFLY_TRY(write_shared_output(rq.shared_memory, to, t.name, t.data));
  const auto add = [&](std::string_view name, auto append, std::uint32_t field, auto value) {
    std::string choice;
    append(choice, field, value);
    append_parameter(parameters, kTensorParameters, name, choice);
  };
  add("shared_memory_region", append_bytes_field, kText, std::string_view(to.region));
  add("shared_memory_byte_size", append_varint_field, kInteger, t.data.size());
  if (to.offset > 0) add("shared_memory_offset", append_varint_field, kInteger, to.offset);
  t.parameters = parameters;
  t.data = {};
  t.count = 0;
  return Ok{};
}

Status collect(const InferRequest& rq, const Signature& sig, const SlotResult& r, std::span<const std::byte> region,
               Pieces& out) {
  const std::size_t wanted = rq.outputs.empty() ? sig.outputs.size() : rq.outputs.size();
  for (std::size_t i = 0; i < wanted && out.count < kMaxTensors; ++i) {
    const InferRequest::Out* const o = rq.outputs.empty() ? nullptr : &rq.outputs[i];
    auto view = view_output(sig, r, region, o == nullptr ? static_cast<std::uint32_t>(i) : o->index);
    if (!view.ok()) return std::move(view.error());
    Piece& t = out.all[out.count++];
    static_cast<OutputView&>(t) = *view;
    if (o == nullptr || (o->classification == 0 && !o->shared)) continue;
    out.made.reserve(2 * wanted);  // the pieces point into it
    if (o->classification > 0) t.data = std::as_bytes(std::span(out.made.emplace_back(classify(t, o->classification))));
    if (o->shared) MAYFLY_TRY(share(t, o->shared, rq, out.made.emplace_back()));
  }
  return Ok{};
}

std::size_t shape_size(const Shape& s) {
  std::size_t n = 0;
  for (const std::int64_t d : s.view()) n += varint_size(static_cast<std::uint64_t>(d));
  return n;
}

std::size_t head_size(const Piece& t) {
  const std::size_t shape = t.shape.rank == 0 ? 0 : bytes_field_size(shape_size(t.shape));
  return bytes_field_size(t.name.size()) + bytes_field_size(dtype_name(t.dtype).size()) + shape + t.parameters.size();
}

void append_head(std::string& out, const Piece& t) {
  append_bytes_field(out, kTensorName, t.name);
  append_bytes_field(out, kTensorDatatype, dtype_name(t.dtype));
  if (t.shape.rank > 0) {
    append_tag(out, kTensorShape, WireType::kBytes);
    append_varint(out, shape_size(t.shape));
    for (const std::int64_t d : t.shape.view()) append_varint(out, static_cast<std::uint64_t>(d));
  }
  out.append(t.parameters);
}

std::string_view text_of(std::span<const std::byte> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

void append_fixed(std::string& out, std::uint32_t field, std::span<const std::byte> data) {
  if (!data.empty()) append_bytes_field(out, field, text_of(data));
}

// Wire: what protocol buffers widen a T to before it becomes a varint.
template <typename T, typename Wire>
void append_varints(std::string& out, std::uint32_t field, std::span<const std::byte> data) {
  if (data.empty()) return;
  const LengthLater length(out, field);
  for (std::size_t i = 0; i + sizeof(T) <= data.size(); i += sizeof(T)) {
    T v;
    std::memcpy(&v, data.data() + i, sizeof(T));
    append_varint(out, static_cast<std::uint64_t>(static_cast<Wire>(v)));
  }
}

void append_strings(std::string& out, std::span<const std::byte> data, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto e = next_bytes_element(data);
    if (!e) return;  // only if the instance changed the region after read_result
    append_bytes_field(out, 8, text_of(*e));
  }
}

// The field of InferTensorContents that carries the type. FP16 and BF16 have none; they never come here.
void append_elements(std::string& out, const OutputView& t) {
  switch (t.dtype) {
    case Dtype::kBool:
      return append_varints<std::uint8_t, std::uint64_t>(out, 1, t.data);
    case Dtype::kInt8:
      return append_varints<std::int8_t, std::int64_t>(out, 2, t.data);
    case Dtype::kInt16:
      return append_varints<std::int16_t, std::int64_t>(out, 2, t.data);
    case Dtype::kInt32:
      return append_varints<std::int32_t, std::int64_t>(out, 2, t.data);
    case Dtype::kInt64:
      return append_varints<std::int64_t, std::int64_t>(out, 3, t.data);
    case Dtype::kUint8:
      return append_varints<std::uint8_t, std::uint64_t>(out, 4, t.data);
    case Dtype::kUint16:
      return append_varints<std::uint16_t, std::uint64_t>(out, 4, t.data);
    case Dtype::kUint32:
      return append_varints<std::uint32_t, std::uint64_t>(out, 4, t.data);
    case Dtype::kUint64:
      return append_varints<std::uint64_t, std::uint64_t>(out, 5, t.data);
    case Dtype::kFp32:
      return append_fixed(out, 6, t.data);
    case Dtype::kFp64:
      return append_fixed(out, 7, t.data);
    case Dtype::kBytes:
      return append_strings(out, t.data, t.count);
    default:
      return;
  }
}

bool raw_only(Dtype t) { return t == Dtype::kFp16 || t == Dtype::kBf16; }

Error too_large(std::uint64_t bytes) {
  return make_error(Code::kOutOfRange, "response_too_large",
                    "the answer may take {} bytes; a gRPC message of protocol buffers has at most {}: ask for fewer "
                    "outputs or rows, or send the tensors raw",
                    bytes, kMaxGrpcMessage);
}

void append_final_mark(std::string& out) {
  append_parameter(out, kParameters, "triton_final_response", std::string_view("\x08\x01", 2));  // bool_param: true
}

}  // namespace

Status print_infer_grpc(std::string& out, std::string_view model, std::string_view version, const InferRequest& rq,
                        const Signature& sig, const SlotResult& r, std::span<const std::byte> output_region,
                        FinalMark mark) {
  Pieces pieces;
  MAYFLY_TRY(collect(rq, sig, r, output_region, pieces));
  bool raw = rq.binary_output_default;
  std::uint64_t most = model.size() + version.size() + rq.id.size();
  for (const Piece& t : pieces.view()) {
    raw = raw || raw_only(t.dtype);
    most += head_size(t) + 4 * kVarintRoom + std::max<std::uint64_t>(t.data.size(), t.count * kVarintRoom);
  }
  if (most > kMaxGrpcMessage) return too_large(most);
  append_bytes_field(out, kModelName, model);
  append_bytes_field(out, kModelVersion, version);
  if (!rq.id.empty()) append_bytes_field(out, kId, rq.id);
  if (mark == FinalMark::kFinal) append_final_mark(out);
  for (const Piece& t : pieces.view()) {
    if (raw) {
      append_tag(out, kOutputs, WireType::kBytes);
      append_varint(out, head_size(t));
      append_head(out, t);
      continue;
    }
    const LengthLater tensor(out, kOutputs);
    append_head(out, t);
    const LengthLater contents(out, kTensorContents);
    append_elements(out, t);
  }
  for (const Piece& t : pieces.view()) {
    if (raw) append_bytes_field(out, kRawContents, text_of(t.data));
  }
  return Ok{};
}

}  // namespace mayfly
