#include "worker_ipc/value_print.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "tensor/base64.h"
#include "tensor/bytes.h"
#include "tensor/half.h"
#include "tensor/json.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMaxEmptyRows = 1 << 16;  // arrays that are printed of a tensor without elements

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

void print_strings(std::string& out, std::span<const std::byte>& rest, std::uint64_t count, BytesForm form) {
  std::string element;  // copied out before it is looked at twice
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto e = next_bytes_element(rest);
    if (!e) return;  // only if the instance changed the region after read_result
    element.assign(reinterpret_cast<const char*>(e->data()), e->size());
    if (i != 0) out += ',';
    if (form == BytesForm::kString) {
      append_json_string(out, element);
      continue;
    }
    out += "{\"b64\":\"";
    append_base64(out, std::as_bytes(std::span(element)));
    out += "\"}";
  }
}

void print_fixed(std::string& out, Dtype t, const std::byte* d, std::uint64_t count) {
  switch (t) {
    case Dtype::kBool:
      return print_booleans(out, d, count);
    case Dtype::kUint8:
      return print_integers<std::uint8_t>(out, d, count);
    case Dtype::kUint16:
      return print_integers<std::uint16_t>(out, d, count);
    case Dtype::kUint32:
      return print_integers<std::uint32_t>(out, d, count);
    case Dtype::kUint64:
      return print_integers<std::uint64_t>(out, d, count);
    case Dtype::kInt8:
      return print_integers<std::int8_t>(out, d, count);
    case Dtype::kInt16:
      return print_integers<std::int16_t>(out, d, count);
    case Dtype::kInt32:
      return print_integers<std::int32_t>(out, d, count);
    case Dtype::kInt64:
      return print_integers<std::int64_t>(out, d, count);
    case Dtype::kFp16:
      return print_floats<float, std::uint16_t, float_from_half>(out, d, count);
    case Dtype::kBf16:
      return print_floats<float, std::uint16_t, float_from_bf16>(out, d, count);
    case Dtype::kFp32:
      return print_floats<float, float, same<float>>(out, d, count);
    case Dtype::kFp64:
      return print_floats<double, double, same<double>>(out, d, count);
    case Dtype::kBytes:
    case Dtype::kInvalid:
      return;
  }
}

// `dims` has an element at least.
void print_rows(std::string& out, Dtype t, std::span<const std::int64_t> dims, std::span<const std::byte>& rest,
                BytesForm form) {
  const auto n = static_cast<std::uint64_t>(dims[0]);
  out += '[';
  if (dims.size() == 1) {
    append_elements(out, t, rest, n, form);
  } else {
    for (std::uint64_t i = 0; i < n; ++i) {
      if (i != 0) out += ',';
      print_rows(out, t, dims.subspan(1), rest, form);
    }
  }
  out += ']';
}

// A tensor without elements may claim any dimensions before the one that is 0.
bool absurd(std::span<const std::int64_t> dims) {
  std::uint64_t rows = 1;
  bool empty = false;
  for (std::int64_t d : dims) {
    if (d < 0) return true;
    empty = empty || d == 0;
    if (!empty && static_cast<std::uint64_t>(d) > kMaxEmptyRows) rows = kMaxEmptyRows + 1;
    if (!empty && rows <= kMaxEmptyRows) rows *= static_cast<std::uint64_t>(d);
  }
  return empty && rows > kMaxEmptyRows;
}

}  // namespace

double float_at(Dtype t, const std::byte* data, std::uint64_t i) {
  switch (t) {
    case Dtype::kFp16:
      return static_cast<double>(float_from_half(load<std::uint16_t>(data + i * 2)));
    case Dtype::kBf16:
      return static_cast<double>(float_from_bf16(load<std::uint16_t>(data + i * 2)));
    case Dtype::kFp32:
      return static_cast<double>(load<float>(data + i * 4));
    default:
      return load<double>(data + i * 8);
  }
}

void append_elements(std::string& out, Dtype t, std::span<const std::byte>& rest, std::uint64_t count, BytesForm form) {
  if (t == Dtype::kBytes) return print_strings(out, rest, count, form);
  const std::uint64_t fits = dtype_size(t) == 0 ? 0 : rest.size() / dtype_size(t);
  const std::uint64_t n = std::min(count, fits);
  print_fixed(out, t, rest.data(), n);
  rest = rest.subspan(n * dtype_size(t));
}

void append_nested(std::string& out, Dtype t, std::span<const std::int64_t> dims, std::span<const std::byte>& rest,
                   BytesForm form) {
  if (dims.empty()) return append_elements(out, t, rest, 1, form);
  if (absurd(dims)) {
    out += "[]";
    return;
  }
  print_rows(out, t, dims, rest, form);
}

void rank_scores(Dtype t, const std::byte* data, std::uint64_t first, std::uint64_t count, std::uint64_t keep,
                 Ranking& order) {
  order.resize(count);
  for (std::uint64_t i = 0; i < count; ++i) order[i] = {float_at(t, data, first + i), i};
  const auto better = [](const auto& a, const auto& b) {
    const bool na = std::isnan(a.first), nb = std::isnan(b.first);
    if (na != nb) return nb;
    if (!na && a.first != b.first) return a.first > b.first;
    return a.second < b.second;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep), order.end(), better);
}

Result<OutputView> view_output(const Signature& sig, const SlotResult& r, std::span<const std::byte> region,
                               std::uint32_t index) {
  const TensorSpec& spec = sig.outputs[index];
  for (std::uint32_t i = 0; i < r.output_count; ++i) {
    const TensorRef& t = r.outputs[i];
    if (t.index != index) continue;
    OutputView out;
    out.name = spec.name;
    out.dtype = spec.dtype;
    out.shape.rank = t.rank;
    std::memcpy(out.shape.dims.data(), t.dims, sizeof(t.dims));
    out.count = element_count(out.shape).value_or(0);
    out.data = region.subspan(t.offset, t.bytes);
    return out;
  }
  return make_error(Code::kInternal, "instance_protocol_violation",
                    "the instance answered without the output \"{}\", which was asked for", spec.name);
}

}  // namespace mayfly
