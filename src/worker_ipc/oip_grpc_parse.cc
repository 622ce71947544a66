// scan_infer_grpc finds the parts of a ModelInferRequest in one pass; parse_infer_grpc walks each tensor once for its
// description and, where it is typed, once more for its elements, which go straight to their place.
// Field numbers: KServe "open_inference_grpc.proto", Triton "grpc_service.proto"; see
// gateway/grpc/proto/inference.proto.
#include <cstring>
#include <limits>

#include "tensor/bytes.h"
#include "worker_ipc/oip_checks.h"
#include "worker_ipc/oip_grpc.h"
#include "worker_ipc/proto_wire.h"

namespace mayfly {
namespace {

Error malformed(std::string_view where) {
  return invalid("malformed_message", "cannot read the request: {} is no valid protocol buffers message", where);
}

Error wrong_kind(std::string_view parameter, std::string_view expected) {
  return invalid("invalid_value", "parameter \"{}\": expected {}", parameter, expected);
}

// One entry of a map<string, InferParameter>.
struct Parameter {
  std::string_view key;
  enum class Kind : std::uint8_t { kNone, kBool, kInteger, kText, kOther } kind = Kind::kNone;
  std::uint64_t value = 0;
  std::string_view text;
  bool is_natural() const { return kind == Kind::kInteger && static_cast<std::int64_t>(value) >= 0; }
};

Status read_parameter(std::string_view entry, Parameter& out) {
  out = Parameter{};
  WireReader fields(entry);
  WireField f;
  while (fields.next(f)) {
    if (f.number == 1 && f.type == WireType::kBytes) out.key = f.bytes;
    if (f.number != 2 || f.type != WireType::kBytes) continue;
    WireReader choice(f.bytes);
    WireField v;
    while (choice.next(v)) {
      if (v.number == 0 || v.number > 5) continue;
      const bool integer = (v.number == 2 || v.number == 5) && v.type == WireType::kVarint;
      const bool truth = v.number == 1 && v.type == WireType::kVarint;
      const bool text = v.number == 3 && v.type == WireType::kBytes;
      out.kind = integer ? Parameter::Kind::kInteger
                 : truth ? Parameter::Kind::kBool
                 : text  ? Parameter::Kind::kText
                         : Parameter::Kind::kOther;
      out.value = v.value;
      out.text = v.bytes;
    }
    if (!choice.ok()) return malformed("parameters");
  }
  if (!fields.ok()) return malformed("parameters");
  return Ok{};
}

Status request_parameter(std::string_view entry, GrpcInfer& out) {
  Parameter p;
  MAYFLY_TRY(read_parameter(entry, p));
  if (p.key == "timeout" || p.key == "priority") {
    if (!p.is_natural()) return wrong_kind(p.key, "an integer of at least 0");
    (p.key == "timeout" ? out.timeout_us : out.priority) = p.value;
  } else if (p.key == "triton_enable_empty_final_response") {
    if (p.kind != Parameter::Kind::kBool) return wrong_kind(p.key, "a bool");
    out.enable_empty_final_response = p.value != 0;
  }
  return Ok{};
}

// Takes one of the parameters shared_memory_region, shared_memory_byte_size, shared_memory_offset.
Status read_place(const Parameter& p, SharedPlace& out) {
  if (p.key == "shared_memory_region") {
    if (p.kind != Parameter::Kind::kText || p.text.empty()) return wrong_kind(p.key, "the name of a region");
    out.region = p.text;
  }
  if (p.key == "shared_memory_byte_size" || p.key == "shared_memory_offset") {
    if (!p.is_natural()) return wrong_kind(p.key, "an integer of at least 0");
    (p.key == "shared_memory_offset" ? out.offset : out.bytes) = p.value;
  }
  return Ok{};
}

void keep(std::array<std::string_view, GrpcInfer::kMaxEntries>& list, std::uint32_t& count, std::string_view entry) {
  if (count < list.size()) list[count] = entry;
  ++count;
}

// ---- one input ----

// The fields of InferTensorContents.
enum Contents : std::uint32_t {
  kNoContents = 0,
  kBoolContents = 1,
  kIntContents = 2,
  kInt64Contents = 3,
  kUintContents = 4,
  kUint64Contents = 5,
  kFp32Contents = 6,
  kFp64Contents = 7,
  kBytesContents = 8,
};
constexpr std::string_view kContentsNames[] = {"",
                                               "bool_contents",
                                               "int_contents",
                                               "int64_contents",
                                               "uint_contents",
                                               "uint64_contents",
                                               "fp32_contents",
                                               "fp64_contents",
                                               "bytes_contents"};

Contents contents_of(Dtype t) {
  switch (t) {
    case Dtype::kBool:
      return kBoolContents;
    case Dtype::kInt8:
    case Dtype::kInt16:
    case Dtype::kInt32:
      return kIntContents;
    case Dtype::kInt64:
      return kInt64Contents;
    case Dtype::kUint8:
    case Dtype::kUint16:
    case Dtype::kUint32:
      return kUintContents;
    case Dtype::kUint64:
      return kUint64Contents;
    case Dtype::kFp32:
      return kFp32Contents;
    case Dtype::kFp64:
      return kFp64Contents;
    case Dtype::kBytes:
      return kBytesContents;
    default:
      return kNoContents;  // FP16, BF16: raw only
  }
}

struct InputText {
  std::string_view whole, name, datatype;
  Shape shape;
  bool has_contents = false, has_elements = false;
  SharedPlace shared;
};

Status add_dimension(InputText& in, std::uint64_t v) {
  if (in.shape.rank == kMaxRank) {
    return invalid("tensor_shape_mismatch", "input \"{}\": more than {} dimensions", shown(in.name), kMaxRank);
  }
  in.shape.dims[in.shape.rank++] = static_cast<std::int64_t>(v);
  return Ok{};
}

Status add_dimensions(InputText& in, const WireField& f) {
  if (f.type == WireType::kVarint) return add_dimension(in, f.value);
  if (f.type != WireType::kBytes) return malformed("inputs.shape");
  std::string_view packed = f.bytes;
  while (!packed.empty()) {
    std::uint64_t v = 0;
    if (!take_varint(packed, v)) return malformed("inputs.shape");
    MAYFLY_TRY(add_dimension(in, v));
  }
  return Ok{};
}

Status has_elements(std::string_view contents, bool& found) {
  WireReader fields(contents);
  WireField f;
  while (fields.next(f)) {
    const bool known = f.number >= kBoolContents && f.number <= kBytesContents;
    // An empty packed list is nothing; an empty element of bytes_contents is one.
    found = found || (known && (f.type != WireType::kBytes || !f.bytes.empty() || f.number == kBytesContents));
  }
  if (!fields.ok()) return malformed("inputs.contents");
  return Ok{};
}

Status read_input(std::string_view tensor, InputText& in) {
  in.whole = tensor;
  WireReader fields(tensor);
  WireField f;
  while (fields.next(f)) {
    if (f.number == 3) {
      MAYFLY_TRY(add_dimensions(in, f));
      continue;
    }
    if (f.number == 0 || f.number > 5) continue;
    if (f.type != WireType::kBytes) return malformed("inputs");
    if (f.number == 1) in.name = f.bytes;
    if (f.number == 2) in.datatype = f.bytes;
    if (f.number == 4) {
      Parameter p;
      MAYFLY_TRY(read_parameter(f.bytes, p));
      MAYFLY_TRY(read_place(p, in.shared));
    }
    if (f.number == 5) {
      in.has_contents = true;
      MAYFLY_TRY(has_elements(f.bytes, in.has_elements));
    }
  }
  if (!fields.ok()) return malformed("inputs");
  return Ok{};
}

// ---- typed elements ----

class TypedInput {
 public:
  TypedInput(const InputText& in, Dtype dtype, std::uint64_t count, std::span<std::byte> room)
      : in_(in), dtype_(dtype), want_(contents_of(dtype)), count_(count), room_(room) {}
  std::uint64_t used() const { return used_; }

  Status read() {
    if (want_ == kNoContents) {
      return invalid("invalid_value", "input \"{}\": {} has no typed form; send it in raw_input_contents", in_.name,
                     dtype_name(dtype_));
    }
    WireReader tensor(in_.whole);
    WireField f;
    while (tensor.next(f)) {
      if (f.number == 5) MAYFLY_TRY(contents(f.bytes));
    }
    if (n_ == count_) return Ok{};
    return invalid("tensor_size_mismatch", "input \"{}\": {} has {} elements; expected {} for shape {}", in_.name,
                   kContentsNames[want_], n_, count_, to_string(in_.shape));
  }

 private:
  Status contents(std::string_view message) {
    WireReader fields(message);
    WireField f;
    while (fields.next(f)) {
      if (f.number < kBoolContents || f.number > kBytesContents) continue;
      if (f.number == want_) {
        MAYFLY_TRY(field(f));
      } else if (f.type != WireType::kBytes || !f.bytes.empty() || f.number == kBytesContents) {
        return invalid("invalid_value", "input \"{}\": {} expects {}; got {}", in_.name, dtype_name(dtype_),
                       kContentsNames[want_], kContentsNames[f.number]);
      }
    }
    return Ok{};  // that it is well-formed, has_elements() has seen
  }

  Status field(const WireField& f) {
    switch (want_) {
      case kFp32Contents:
        return fixed(f, WireType::kFixed32, 4);
      case kFp64Contents:
        return fixed(f, WireType::kFixed64, 8);
      case kBytesContents:
        return f.type == WireType::kBytes ? string(f.bytes) : malformed("bytes_contents");
      default:
        return varints(f);
    }
  }

  Error too_many() const {
    return invalid("tensor_size_mismatch", "input \"{}\": {} has more than the {} elements of shape {}", in_.name,
                   kContentsNames[want_], count_, to_string(in_.shape));
  }

  Status fixed(const WireField& f, WireType alone, std::size_t size) {
    const bool packed = f.type == WireType::kBytes;
    if (!packed && f.type != alone) return malformed(kContentsNames[want_]);
    const std::size_t bytes = packed ? f.bytes.size() : size;
    if (bytes % size != 0) return malformed(kContentsNames[want_]);
    if (bytes / size > count_ - n_) return too_many();
    if (bytes > 0)
      std::memcpy(room_.data() + used_, packed ? f.bytes.data() : reinterpret_cast<const char*>(&f.value), bytes);
    n_ += bytes / size;
    used_ += bytes;
    return Ok{};
  }

  Status string(std::string_view s) {
    if (n_ == count_) return too_many();
    if (s.size() > UINT32_MAX || s.size() + kBytesPrefix > room_.size() - used_) {
      return invalid("payload_too_large",
                     "input \"{}\": its strings need more than the {} bytes left for inputs; send less in one request",
                     in_.name, room_.size());
    }
    const auto length = static_cast<std::uint32_t>(s.size());
    std::memcpy(room_.data() + used_, &length, kBytesPrefix);
    if (!s.empty()) std::memcpy(room_.data() + used_ + kBytesPrefix, s.data(), s.size());
    used_ += kBytesPrefix + s.size();
    ++n_;
    return Ok{};
  }

  Status varints(const WireField& f) {
    switch (dtype_) {
      case Dtype::kBool:
        return each_varint<std::uint8_t>(f, [](std::uint64_t v, std::uint8_t& to) {
          to = v != 0;
          return true;
        });
      case Dtype::kInt8:
        return each_varint<std::int8_t>(f, narrow<std::int32_t, std::int8_t>);
      case Dtype::kInt16:
        return each_varint<std::int16_t>(f, narrow<std::int32_t, std::int16_t>);
      case Dtype::kInt32:
        return each_varint<std::int32_t>(f, narrow<std::int32_t, std::int32_t>);
      case Dtype::kInt64:
        return each_varint<std::int64_t>(f, narrow<std::int64_t, std::int64_t>);
      case Dtype::kUint8:
        return each_varint<std::uint8_t>(f, narrow<std::uint32_t, std::uint8_t>);
      case Dtype::kUint16:
        return each_varint<std::uint16_t>(f, narrow<std::uint32_t, std::uint16_t>);
      case Dtype::kUint32:
        return each_varint<std::uint32_t>(f, narrow<std::uint32_t, std::uint32_t>);
      default:
        return each_varint<std::uint64_t>(f, narrow<std::uint64_t, std::uint64_t>);
    }
  }

  // Wire: the field's own type, to which protocol buffers cut a varint. False: To can't hold the value.
  template <typename Wire, typename To>
  static bool narrow(std::uint64_t v, To& to) {
    const auto wire = static_cast<Wire>(v);
    if (wire < std::numeric_limits<To>::min() || wire > std::numeric_limits<To>::max()) return false;
    to = static_cast<To>(wire);
    return true;
  }

  template <typename T, typename F>
  Status each_varint(const WireField& f, F&& convert) {
    std::string_view packed = f.bytes;
    const bool alone = f.type == WireType::kVarint;
    if (!alone && f.type != WireType::kBytes) return malformed(kContentsNames[want_]);
    std::byte* to = room_.data() + used_;
    std::uint64_t v = f.value;
    for (bool first = alone; first || (!alone && !packed.empty()); first = false) {
      if (!alone && !take_varint(packed, v)) return malformed(kContentsNames[want_]);
      if (n_ == count_) return too_many();
      T value{};
      if (!convert(v, value)) {
        return invalid("value_out_of_range", "input \"{}\": element {} is out of the range of {}", in_.name, n_,
                       dtype_name(dtype_));
      }
      std::memcpy(to, &value, sizeof(T));
      to += sizeof(T);
      used_ += sizeof(T);
      ++n_;
    }
    return Ok{};
  }

  const InputText& in_;
  Dtype dtype_;
  Contents want_;
  std::uint64_t count_;
  std::span<std::byte> room_;
  std::uint64_t n_ = 0, used_ = 0;
};

// ---- the request ----

class RequestParser {
 public:
  RequestParser(const GrpcInfer& m, const Signature& sig, SlotRequest& rq, InputArea& area, InferRequest& out)
      : m_(m), sig_(sig), rq_(rq), area_(area), out_(out) {}

  Status run() {
    out_.binary_output_default = true;
    for (std::uint32_t i = 0; i < m_.inputs; ++i) MAYFLY_TRY(input(m_.input[i]));
    for (std::uint32_t i = 0; i < m_.outputs; ++i) MAYFLY_TRY(output(m_.output[i]));
    MAYFLY_TRY(check_all_inputs(sig_, seen_));
    if (m_.raws > raws_taken_) {
      return invalid(
          "tensor_size_mismatch",
          "raw_input_contents has {} entries for {} inputs; expected one for each that is not in shared memory",
          m_.raws, m_.inputs);
    }
    rq_.output_mask = out_.outputs.empty() ? ~std::uint64_t{0} : mask_;
    return Ok{};
  }

 private:
  Status input(std::string_view tensor) {
    InputText in;
    MAYFLY_TRY(read_input(tensor, in));
    if (in.name.empty()) return invalid("invalid_value", "an entry of \"inputs\" has no \"name\"");
    auto index = find_input(sig_, in.name, seen_);
    if (!index.ok()) return std::move(index.error());
    const TensorSpec& spec = sig_.inputs[*index];
    if (in.datatype.empty()) return invalid("invalid_value", "input \"{}\": \"datatype\" is required", in.name);
    MAYFLY_TRY(check_input_type(in.name, in.datatype, in.shape, spec));
    TensorRef& ref = rq_.inputs[rq_.input_count];
    ref.index = *index;
    ref.dtype = static_cast<std::uint8_t>(spec.dtype);
    ref.rank = in.shape.rank;
    ref.reserved = 0;
    std::memcpy(ref.dims, in.shape.dims.data(), sizeof(ref.dims));
    MAYFLY_TRY(fill(in, spec, ref));
    ++rq_.input_count;
    return Ok{};
  }

  Status fill(const InputText& in, const TensorSpec& spec, TensorRef& ref) {
    const std::span<std::byte> room = area_.room(ref.index);
    auto count = check_input_room(in.name, in.shape, spec.dtype, room, area_.size());
    if (!count.ok()) return std::move(count.error());
    if (in.shared) {
      MAYFLY_TRY(shared(in, spec, *count, room));
      ref.bytes = in.shared.bytes;
    } else if (m_.raws > 0) {
      MAYFLY_TRY(raw(in, spec, *count, room));
      ref.bytes = m_.raw[raws_taken_++].size();
    } else {
      if (!in.has_contents && *count > 0) {
        return invalid("invalid_value", "input \"{}\": expected either \"contents\" or raw_input_contents, got neither",
                       in.name);
      }
      out_.binary_output_default = false;
      TypedInput typed(in, spec.dtype, *count, room);
      if (in.has_elements || *count > 0) MAYFLY_TRY(typed.read());
      ref.bytes = typed.used();
    }
    ref.offset = area_.take(ref.index, ref.bytes);
    return Ok{};
  }

  Status shared(const InputText& in, const TensorSpec& spec, std::uint64_t count, std::span<std::byte> room) const {
    if (in.has_elements) {
      return invalid("invalid_value", "input \"{}\": expected either \"contents\" or shared_memory_region, got both",
                     in.name);
    }
    return read_shared_input(out_.shared_memory, in.shared, in.name, in.shape, spec.dtype, count, room);
  }

  Status raw(const InputText& in, const TensorSpec& spec, std::uint64_t count, std::span<std::byte> room) const {
    if (in.has_elements) {
      return invalid("invalid_value",
                     "input \"{}\": expected either \"contents\" or raw_input_contents (for all inputs), got both",
                     in.name);
    }
    if (raws_taken_ >= m_.raws) {
      return invalid("tensor_size_mismatch", "input \"{}\": raw_input_contents has only {} entries for {} inputs",
                     in.name, m_.raws, m_.inputs);
    }
    return copy_raw_input(in.name, in.shape, spec.dtype, count, std::as_bytes(std::span(m_.raw[raws_taken_])), room);
  }

  Status output(std::string_view tensor) {
    std::string_view name;
    std::uint64_t classification = 0;
    SharedPlace place;
    WireReader fields(tensor);
    WireField f;
    while (fields.next(f)) {
      if (f.number == 0 || f.number > 2) continue;
      if (f.type != WireType::kBytes) return malformed("outputs");
      if (f.number == 1) name = f.bytes;
      if (f.number != 2) continue;
      Parameter p;
      MAYFLY_TRY(read_parameter(f.bytes, p));
      MAYFLY_TRY(read_place(p, place));
      if (p.key != "classification") continue;
      if (p.kind != Parameter::Kind::kInteger) return wrong_kind(p.key, "an integer");
      classification = p.value;
    }
    if (!fields.ok()) return malformed("outputs");
    if (name.empty()) return invalid("invalid_value", "an entry of \"outputs\" has no \"name\"");
    auto index = find_output(sig_, name, classification, mask_);
    if (!index.ok()) return std::move(index.error());
    if (place) MAYFLY_TRY(check_shared_output(out_.shared_memory, place, name));
    out_.outputs.push_back({*index, std::nullopt, static_cast<std::uint32_t>(classification), std::move(place)});
    return Ok{};
  }

  const GrpcInfer& m_;
  const Signature& sig_;
  SlotRequest& rq_;
  InputArea& area_;
  InferRequest& out_;
  std::uint64_t seen_ = 0, mask_ = 0;  // inputs, outputs, by index
  std::uint32_t raws_taken_ = 0;
};

}  // namespace

Status scan_infer_grpc(std::string_view message, GrpcInfer& out) {
  out.model_name = out.model_version = out.id = {};
  out.timeout_us = out.priority = 0;
  out.enable_empty_final_response = false;
  out.inputs = out.outputs = out.raws = 0;
  WireReader fields(message);
  WireField f;
  while (fields.next(f)) {
    if (f.number == 0 || f.number > 7) continue;
    if (f.type != WireType::kBytes) return malformed("ModelInferRequest");
    switch (f.number) {
      case 1:
        out.model_name = f.bytes;
        break;
      case 2:
        out.model_version = f.bytes;
        break;
      case 3:
        out.id = f.bytes;
        break;
      case 4:
        MAYFLY_TRY(request_parameter(f.bytes, out));
        break;
      case 5:
        keep(out.input, out.inputs, f.bytes);
        break;
      case 6:
        keep(out.output, out.outputs, f.bytes);
        break;
      default:
        keep(out.raw, out.raws, f.bytes);
    }
  }
  if (!fields.ok()) return malformed("ModelInferRequest");
  if (out.id.size() <= kMaxRequestIdBytes) return Ok{};
  return invalid("invalid_value", "\"id\" has {} bytes; the limit is {}", out.id.size(), kMaxRequestIdBytes);
}

Status parse_infer_grpc(const GrpcInfer& message, const Signature& sig, SlotRequest& rq, InputArea& area,
                        InferRequest& out) {
  rq.kind = RequestKind::kTensors;
  rq.input_count = 0;
  rq.raw_bytes = 0;
  out.id.assign(message.id);
  out.outputs.clear();
  return RequestParser(message, sig, rq, area, out).run();
}

}  // namespace mayfly
