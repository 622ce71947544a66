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
constexpr std::uint32_t kTensorName = 1, kTensorDatatype = 2, kTensorShape = 3, kTensorContents = 5;
constexpr std::uint64_t kVarintRoom = 10;  // of one element at most

// The outputs of the answer, in order.
struct Pieces {
  std::array<OutputView, kMaxTensors> all;
  std::size_t count = 0;
  std::vector<std::string> made;  // what the server makes itself (classification)
  std::span<const OutputView> view() const { return {all.data(), count}; }
};

Status collect(const InferRequest& rq, const Signature& sig, const SlotResult& r, std::span<const std::byte> region,
               Pieces& out) {
  const std::size_t wanted = rq.outputs.empty() ? sig.outputs.size() : rq.outputs.size();
  for (std::size_t i = 0; i < wanted && out.count < kMaxTensors; ++i) {
    const InferRequest::Out o =
        rq.outputs.empty() ? InferRequest::Out{static_cast<std::uint32_t>(i), {}, 0} : rq.outputs[i];
    auto view = view_output(sig, r, region, o.index);
    if (!view.ok()) return std::move(view.error());
    OutputView& t = out.all[out.count++] = *view;
    if (o.classification == 0) continue;
    out.made.reserve(wanted);  // the pieces point into it
    t.data = std::as_bytes(std::span(out.made.emplace_back(classify(t, o.classification))));
  }
  return Ok{};
}

std::size_t shape_size(const Shape& s) {
  std::size_t n = 0;
  for (const std::int64_t d : s.view()) n += varint_size(static_cast<std::uint64_t>(d));
  return n;
}

std::size_t head_size(const OutputView& t) {
  const std::size_t shape = t.shape.rank == 0 ? 0 : bytes_field_size(shape_size(t.shape));
  return bytes_field_size(t.name.size()) + bytes_field_size(dtype_name(t.dtype).size()) + shape;
}

void append_head(std::string& out, const OutputView& t) {
  append_bytes_field(out, kTensorName, t.name);
  append_bytes_field(out, kTensorDatatype, dtype_name(t.dtype));
  if (t.shape.rank == 0) return;
  append_tag(out, kTensorShape, WireType::kBytes);
  append_varint(out, shape_size(t.shape));
  for (const std::int64_t d : t.shape.view()) append_varint(out, static_cast<std::uint64_t>(d));
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
  constexpr std::string_view kName = "triton_final_response";
  append_tag(out, kParameters, WireType::kBytes);
  append_varint(out, bytes_field_size(kName.size()) + 4);
  append_bytes_field(out, 1, kName);
  append_bytes_field(out, 2, std::string_view("\x08\x01", 2));  // InferParameter{bool_param: true}
}

}  // namespace

Status print_infer_grpc(std::string& out, std::string_view model, std::string_view version, const InferRequest& rq,
                        const Signature& sig, const SlotResult& r, std::span<const std::byte> output_region,
                        FinalMark mark) {
  Pieces pieces;
  MAYFLY_TRY(collect(rq, sig, r, output_region, pieces));
  bool raw = rq.binary_output_default;
  std::uint64_t most = model.size() + version.size() + rq.id.size();
  for (const OutputView& t : pieces.view()) {
    raw = raw || raw_only(t.dtype);
    most += head_size(t) + 4 * kVarintRoom + std::max<std::uint64_t>(t.data.size(), t.count * kVarintRoom);
  }
  if (most > kMaxGrpcMessage) return too_large(most);
  append_bytes_field(out, kModelName, model);
  append_bytes_field(out, kModelVersion, version);
  if (!rq.id.empty()) append_bytes_field(out, kId, rq.id);
  if (mark == FinalMark::kFinal) append_final_mark(out);
  for (const OutputView& t : pieces.view()) {
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
  for (const OutputView& t : pieces.view()) {
    if (raw) append_bytes_field(out, kRawContents, text_of(t.data));
  }
  return Ok{};
}

}  // namespace mayfly
