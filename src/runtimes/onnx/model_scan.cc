#include "runtimes/onnx/model_scan.h"

#include <cstring>
#include <initializer_list>
#include <optional>

namespace mayfly {
namespace {

using Bytes = std::span<const std::byte>;
constexpr int kMaxGraphDepth = 32;

struct Field {
  std::uint32_t number = 0;
  std::uint64_t value = 0;  // of a varint
  Bytes bytes;              // of a length-delimited field
};

std::optional<std::uint64_t> take_varint(Bytes& in) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 10 && i < in.size(); ++i) {
    const auto b = static_cast<std::uint64_t>(in[i]);
    value |= (b & 0x7F) << (7 * i);
    if ((b & 0x80) == 0) {
      in = in.subspan(i + 1);
      return value;
    }
  }
  return std::nullopt;
}

// Nothing where the message is malformed. `in` must not be empty.
std::optional<Field> take_field(Bytes& in) {
  const auto key = take_varint(in);
  if (!key || *key >> 3 == 0 || *key >> 3 > 0x1FFFFFFF) return std::nullopt;
  Field f;
  f.number = static_cast<std::uint32_t>(*key >> 3);
  std::size_t skip = 0;
  switch (*key & 7) {
    case 0: {
      const auto value = take_varint(in);
      if (!value) return std::nullopt;
      f.value = *value;
      return f;
    }
    case 1:
      skip = 8;
      break;
    case 2: {
      const auto length = take_varint(in);
      if (!length || *length > in.size()) return std::nullopt;
      f.bytes = in.first(*length);
      skip = *length;
      break;
    }
    case 5:
      skip = 4;
      break;
    default:
      return std::nullopt;
  }
  if (skip > in.size()) return std::nullopt;
  in = in.subspan(skip);
  return f;
}

class Scanner {
 public:
  bool model(Bytes in);
  ModelScan result;
  bool has_graph = false;
  bool too_deep = false;

 private:
  bool opset(Bytes in);
  bool graph(Bytes in, int depth);
  bool node(Bytes in, int depth);
  bool attribute(Bytes in, int depth);
  bool sparse(Bytes in);
  bool tensor(Bytes in);
};

bool Scanner::model(Bytes in) {
  while (!in.empty()) {
    const auto f = take_field(in);
    if (!f) return false;
    if (f->number == 7) {
      has_graph = true;
      if (!graph(f->bytes, 0)) return false;
    }
    if (f->number == 8 && !opset(f->bytes)) return false;
    if (f->number == 25) {  // local functions: their nodes may hold tensors, too
      for (Bytes body = f->bytes; !body.empty();) {
        const auto n = take_field(body);
        if (!n || (n->number == 7 && !node(n->bytes, 0))) return false;
      }
    }
  }
  return true;
}

bool Scanner::opset(Bytes in) {
  std::int64_t version = 0;
  bool default_domain = true;
  while (!in.empty()) {
    const auto f = take_field(in);
    if (!f) return false;
    if (f->number == 1) {
      default_domain = f->bytes.empty() || (f->bytes.size() == 7 && std::memcmp(f->bytes.data(), "ai.onnx", 7) == 0);
    }
    if (f->number == 2) version = static_cast<std::int64_t>(f->value);
  }
  if (default_domain && version > result.opset) result.opset = version;
  return true;
}

bool Scanner::graph(Bytes in, int depth) {
  if (depth > kMaxGraphDepth) {
    too_deep = true;
    return false;
  }
  while (!in.empty()) {
    const auto f = take_field(in);
    if (!f) return false;
    if (f->number == 1 && !node(f->bytes, depth)) return false;
    if (f->number == 5 && !tensor(f->bytes)) return false;
    if (f->number == 15 && !sparse(f->bytes)) return false;
  }
  return true;
}

bool Scanner::node(Bytes in, int depth) {
  while (!in.empty()) {
    const auto f = take_field(in);
    if (!f || (f->number == 5 && !attribute(f->bytes, depth))) return false;
  }
  return true;
}

bool Scanner::attribute(Bytes in, int depth) {
  while (!in.empty()) {
    const auto f = take_field(in);
    if (!f) return false;
    if ((f->number == 5 || f->number == 10) && !tensor(f->bytes)) return false;
    if ((f->number == 6 || f->number == 11) && !graph(f->bytes, depth + 1)) return false;
    if ((f->number == 22 || f->number == 23) && !sparse(f->bytes)) return false;
  }
  return true;
}

bool Scanner::sparse(Bytes in) {
  while (!in.empty()) {
    const auto f = take_field(in);
    if (!f || ((f->number == 1 || f->number == 2) && !tensor(f->bytes))) return false;
  }
  return true;
}

bool Scanner::tensor(Bytes in) {
  while (!in.empty()) {
    const auto f = take_field(in);
    if (!f) return false;
    if (f->number == 13 || (f->number == 14 && f->value == 1)) result.external_data = true;
  }
  return true;
}

}  // namespace

Result<ModelScan> scan_model(Bytes bytes) {
  Scanner s;
  if (bytes.size() >= 8 && std::memcmp(bytes.data() + 4, "ORTM", 4) == 0) {
    s.result.is_ort = true;
    return s.result;
  }
  const bool whole = s.model(bytes);
  if (s.too_deep) {
    return invalid("model_too_complex", "the model's graphs nest deeper than {}; flatten its control flow",
                   kMaxGraphDepth);
  }
  if (!whole || !s.has_graph) {
    return invalid("invalid_model",
                   "the file of {} bytes is no ONNX model (nor an .ort file): {}; check that it is complete",
                   bytes.size(), whole ? "it has no graph" : "its protobuf encoding is broken");
  }
  return s.result;
}

}  // namespace mayfly
