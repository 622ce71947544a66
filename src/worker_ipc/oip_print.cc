// print_infer_response: JSON and binary forms of outputs, straight from the output region. The region belongs to an
// instance that may be writing to it now: values are loaded once, and lengths in it are bounded before they are used.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "tensor/bytes.h"
#include "tensor/half.h"
#include "tensor/json.h"
#include "worker_ipc/oip.h"
#include "worker_ipc/oip_classify.h"

namespace mayfly {
namespace {

// One output to print. `data` lies in the region, or in `made` where the server made it (classification).
struct Piece {
  std::string_view name;
  Dtype dtype = Dtype::kInvalid;
  Shape shape;
  std::uint64_t count = 0;
  std::span<const std::byte> data;
  std::string made;
  bool binary = false;
  std::span<const std::byte> bytes() const { return made.empty() ? data : std::as_bytes(std::span(made)); }
};

template <typename T>
T load(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof(T));
  return v;
}

// Shortest text that reads back to the same value; integral values keep a ".0" so that they stay floats for readers.
template <typename T>
char* print_float(char* p, char* end, T v) {
  if (!std::isfinite(v)) {
    const std::string_view s = std::isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity";
    return std::copy(s.begin(), s.end(), p);
  }
  char* const to = std::to_chars(p, end, v).ptr;
  for (const char* c = p; c != to; ++c) {
    if (*c == '.' || *c == 'e') return to;
  }
  to[0] = '.';
  to[1] = '0';
  return to + 2;
}

// Prints `count` values, separated by commas, through a small buffer. put(p, end, i) prints value i and returns the
// end of it; kRoom is more than any value takes.
template <typename F>
void print_values(std::string& out, std::uint64_t count, F&& put) {
  constexpr std::size_t kRoom = 40;
  char buffer[4096];
  char* const end = buffer + sizeof(buffer);
  char* p = buffer;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (static_cast<std::size_t>(end - p) < kRoom) {
      out.append(buffer, p);
      p = buffer;
    }
    if (i != 0) *p++ = ',';
    p = put(p, end, i);
  }
  out.append(buffer, p);
}

template <typename T>
void print_integers(std::string& out, const std::byte* data, std::uint64_t count) {
  print_values(out, count, [data](char* p, char* end, std::uint64_t i) {
    return std::to_chars(p, end, load<T>(data + i * sizeof(T))).ptr;
  });
}

template <typename T, typename Stored, T (*widen)(Stored)>
void print_floats(std::string& out, const std::byte* data, std::uint64_t count) {
  print_values(out, count, [data](char* p, char* end, std::uint64_t i) {
    return print_float(p, end, widen(load<Stored>(data + i * sizeof(Stored))));
  });
}

template <typename T>
T same(T v) {
  return v;
}

void print_booleans(std::string& out, const std::byte* data, std::uint64_t count) {
  print_values(out, count, [data](char* p, char*, std::uint64_t i) {
    const std::string_view s = data[i] != std::byte{0} ? "true" : "false";
    return std::copy(s.begin(), s.end(), p);
  });
}

void print_strings(std::string& out, std::span<const std::byte> data, std::uint64_t count) {
  std::string element;  // copied out before it is looked at twice
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto e = next_bytes_element(data);
    if (!e) return;  // only if the instance changed the region after read_result
    element.assign(reinterpret_cast<const char*>(e->data()), e->size());
    if (i != 0) out += ',';
    append_json_string(out, element);
  }
}

void print_data(std::string& out, const Piece& t) {
  const std::byte* d = t.bytes().data();
  switch (t.dtype) {
    case Dtype::kBool:
      return print_booleans(out, d, t.count);
    case Dtype::kUint8:
      return print_integers<std::uint8_t>(out, d, t.count);
    case Dtype::kUint16:
      return print_integers<std::uint16_t>(out, d, t.count);
    case Dtype::kUint32:
      return print_integers<std::uint32_t>(out, d, t.count);
    case Dtype::kUint64:
      return print_integers<std::uint64_t>(out, d, t.count);
    case Dtype::kInt8:
      return print_integers<std::int8_t>(out, d, t.count);
    case Dtype::kInt16:
      return print_integers<std::int16_t>(out, d, t.count);
    case Dtype::kInt32:
      return print_integers<std::int32_t>(out, d, t.count);
    case Dtype::kInt64:
      return print_integers<std::int64_t>(out, d, t.count);
    case Dtype::kFp16:
      return print_floats<float, std::uint16_t, float_from_half>(out, d, t.count);
    case Dtype::kBf16:
      return print_floats<float, std::uint16_t, float_from_bf16>(out, d, t.count);
    case Dtype::kFp32:
      return print_floats<float, float, same<float>>(out, d, t.count);
    case Dtype::kFp64:
      return print_floats<double, double, same<double>>(out, d, t.count);
    case Dtype::kBytes:
      return print_strings(out, t.bytes(), t.count);
    case Dtype::kInvalid:
      return;
  }
}

const TensorRef* find_output(const SlotResult& r, std::uint32_t index) {
  for (std::uint32_t i = 0; i < r.output_count; ++i) {
    if (r.outputs[i].index == index) return &r.outputs[i];
  }
  return nullptr;
}

std::vector<Piece> pieces_of(const InferRequest& rq, const Signature& sig, const SlotResult& r,
                             std::span<const std::byte> region) {
  std::vector<InferRequest::Out> wanted = rq.outputs;
  for (std::uint32_t i = 0; rq.outputs.empty() && i < sig.outputs.size(); ++i) wanted.push_back({i, {}, 0});
  std::vector<Piece> pieces;
  for (const InferRequest::Out& o : wanted) {
    const TensorRef* ref = find_output(r, o.index);
    if (ref == nullptr) continue;
    Piece t;
    t.name = sig.outputs[o.index].name;
    t.dtype = sig.outputs[o.index].dtype;
    t.shape.rank = ref->rank;
    std::memcpy(t.shape.dims.data(), ref->dims, sizeof(ref->dims));
    t.count = element_count(t.shape).value_or(0);
    t.data = region.subspan(ref->offset, ref->bytes);
    t.binary = o.binary.value_or(rq.binary_output_default);
    if (o.classification > 0) {
      t.made = classify(t.dtype, t.data, o.classification, t.shape, t.count);
      t.data = {};
      t.dtype = Dtype::kBytes;
    }
    pieces.push_back(std::move(t));
  }
  return pieces;
}

void print_piece(std::string& out, const Piece& t) {
  out += "{\"name\":";
  append_json_string(out, t.name);
  fmt::format_to(std::back_inserter(out), ",\"datatype\":\"{}\",\"shape\":{}", dtype_name(t.dtype), to_string(t.shape));
  if (t.binary) {
    fmt::format_to(std::back_inserter(out), ",\"parameters\":{{\"binary_data_size\":{}}}}}", t.bytes().size());
    return;
  }
  out += ",\"data\":[";
  print_data(out, t);
  out += "]}";
}

}  // namespace

void print_infer_response(std::string& out, std::size_t& json_bytes, bool& any_binary, std::string_view model,
                          std::string_view version, const InferRequest& rq, const Signature& sig, const SlotResult& r,
                          std::span<const std::byte> output_region) {
  const std::size_t start = out.size();
  const std::vector<Piece> pieces = pieces_of(rq, sig, r, output_region);
  any_binary = false;
  out += "{\"model_name\":";
  append_json_string(out, model);
  out += ",\"model_version\":";
  append_json_string(out, version);
  if (!rq.id.empty()) {
    out += ",\"id\":";
    append_json_string(out, rq.id);
  }
  out += ",\"outputs\":[";
  for (const Piece& t : pieces) {
    if (&t != pieces.data()) out += ',';
    print_piece(out, t);
  }
  out += "]}";
  json_bytes = out.size() - start;
  for (const Piece& t : pieces) {
    if (!t.binary) continue;
    any_binary = true;
    const auto bytes = t.bytes();
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
}

}  // namespace mayfly
