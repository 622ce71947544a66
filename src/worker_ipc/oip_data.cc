#include "worker_ipc/oip_data.h"

#include <cstring>

#include "tensor/bytes.h"
#include "tensor/half.h"
#include "tensor/number_text.h"
#include "worker_ipc/oip.h"

namespace mayfly {
namespace {

struct Context {
  std::string_view tensor;
  Dtype dtype;
  std::uint64_t count;
  std::optional<Error> error{};  // set by an element function that returns null

  const char* fail(Error e) {
    error = std::move(e);
    return nullptr;
  }
};

const char* skip_space(const char* p) {
  while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') ++p;
  return p;
}

// The value at p for a message: up to 32 bytes, to the next separator.
std::string_view excerpt(const char* p) {
  std::size_t n = 0;
  while (n < 32 && p[n] != '\0' && std::strchr(",]}\n\r\t ", p[n]) == nullptr) ++n;
  return {p, n};
}

Error wrong_value(const Context& c, const char* p, std::uint64_t i) {
  return invalid("invalid_value", "input \"{}\": element {} of \"data\" is {}; expected a {} value", c.tensor, i,
                 excerpt(p), dtype_name(c.dtype));
}

Error out_of_range(const Context& c, const char* p, std::uint64_t i) {
  return invalid("value_out_of_range", "input \"{}\": element {} of \"data\" is {}, outside the range of {}", c.tensor,
                 i, excerpt(p), dtype_name(c.dtype));
}

Error wrong_count(const Context& c, std::uint64_t got, bool more) {
  return invalid("tensor_size_mismatch", "input \"{}\": \"data\" has {}{} elements; expected {} by its shape", c.tensor,
                 more ? "more than " : "", got, c.count);
}

Error bad_array(const Context& c, const char* p) {
  return invalid("malformed_json", "input \"{}\": \"data\" is not a well-formed JSON array near \"{}\"", c.tensor,
                 std::string_view(p, *p == '\0' ? 0 : 1));
}

// Walks the array and calls element(p, i), which returns the first character after the value, or null
// after c.fail(error), for each. (A Result per element costs as much as parsing it.)
template <typename F>
Status walk(const char* p, Context& c, F&& element) {
  std::size_t depth = 0;
  std::uint64_t i = 0;
  bool want_value = true;
  bool may_close = false;  // "[" was just read: "]" is right although a value is wanted
  for (;;) {
    p = skip_space(p);
    if (!want_value && *p == ',') {
      want_value = true;
      may_close = false;
      ++p;
    } else if (*p == ']' && depth > 0 && (!want_value || may_close)) {
      ++p;
      if (--depth == 0) break;
      want_value = false;
    } else if (!want_value) {
      return bad_array(c, p);
    } else if (*p == '[') {
      if (++depth > kMaxDataNesting) {
        return invalid("invalid_value", "input \"{}\": \"data\" is nested deeper than {} arrays", c.tensor,
                       kMaxDataNesting);
      }
      may_close = true;
      ++p;
    } else {
      if (depth == 0 || *p == ',' || *p == ']' || *p == '}' || *p == '\0') return bad_array(c, p);
      if (i == c.count) return wrong_count(c, c.count, true);
      p = element(p, i++);
      if (p == nullptr) return std::move(*c.error);
      want_value = false;
    }
  }
  if (i != c.count) return wrong_count(c, i, false);
  return Ok{};
}

inline NumberError convert(const Decimal& d, float& v) { return to_float(d, v); }
inline NumberError convert(const Decimal& d, double& v) { return to_double(d, v); }
template <typename T>
  requires std::is_integral_v<T>
NumberError convert(const Decimal& d, T& v) {
  return to_integer(d, v);
}

template <typename T>
Status numbers(const char* p, Context& c, std::byte* to) {
  return walk(p, c, [&](const char* at, std::uint64_t i) -> const char* {
    const Decimal d = read_decimal(at);
    T v{};
    const NumberError e = convert(d, v);
    if (e == NumberError::kSyntax) return c.fail(wrong_value(c, at, i));
    if (e == NumberError::kRange) return c.fail(out_of_range(c, at, i));
    std::memcpy(to + i * sizeof(T), &v, sizeof(T));
    return d.end;
  });
}

// FP16 and BF16 go through binary64: a decimal within 2^-53 of a tie may round the other way, which nobody can see.
Status sixteen_bit_floats(const char* p, Context& c, std::byte* to) {
  return walk(p, c, [&](const char* at, std::uint64_t i) -> const char* {
    const Decimal d = read_decimal(at);
    double v = 0;
    const NumberError e = to_double(d, v);
    if (e == NumberError::kSyntax) return c.fail(wrong_value(c, at, i));
    const bool half = c.dtype == Dtype::kFp16;
    const std::uint16_t bits = half ? half_from_double(v) : bf16_from_double(v);
    const bool infinite = (bits & 0x7FFF) == (half ? 0x7C00 : 0x7F80);
    if (e == NumberError::kRange || infinite) return c.fail(out_of_range(c, at, i));
    std::memcpy(to + i * 2, &bits, 2);
    return d.end;
  });
}

Status booleans(const char* p, Context& c, std::byte* to) {
  return walk(p, c, [&](const char* at, std::uint64_t i) -> const char* {
    const bool yes = std::strncmp(at, "true", 4) == 0;
    if (!yes && std::strncmp(at, "false", 5) != 0) return c.fail(wrong_value(c, at, i));
    to[i] = std::byte{yes};
    return at + (yes ? 4 : 5);
  });
}

int hex_value(char h) {
  if (h >= '0' && h <= '9') return h - '0';
  if (h >= 'a' && h <= 'f') return h - 'a' + 10;
  if (h >= 'A' && h <= 'F') return h - 'A' + 10;
  return -1;
}

// Four hex digits, or -1. Stops at the first other character, so it never runs past the text's zero padding.
int hex4(const char* p) {
  int v = 0;
  for (int i = 0; i < 4; ++i) {
    const int h = hex_value(p[i]);
    if (h < 0) return -1;
    v = v * 16 + h;
  }
  return v;
}

// After "\u": the code point in `cp`, and the character after it; null if it is no scalar value.
const char* read_code_point(const char* p, std::uint32_t& cp) {
  const int first = hex4(p);
  if (first < 0 || (first >= 0xDC00 && first <= 0xDFFF)) return nullptr;
  p += 4;
  cp = static_cast<std::uint32_t>(first);
  if (first < 0xD800 || first > 0xDBFF) return p;
  if (p[0] != '\\' || p[1] != 'u') return nullptr;
  const int second = hex4(p + 2);
  if (second < 0xDC00 || second > 0xDFFF) return nullptr;
  cp = 0x10000 + ((static_cast<std::uint32_t>(first) - 0xD800) << 10) + (static_cast<std::uint32_t>(second) - 0xDC00);
  return p + 6;
}

std::size_t encode_utf8(std::uint32_t cp, char* to) {
  const auto tail = [](std::uint32_t v) { return static_cast<char>(0x80 | (v & 0x3F)); };
  if (cp < 0x80) return to[0] = static_cast<char>(cp), 1;
  if (cp < 0x800) {
    to[0] = static_cast<char>(0xC0 | cp >> 6), to[1] = tail(cp);
    return 2;
  }
  if (cp < 0x10000) {
    to[0] = static_cast<char>(0xE0 | cp >> 12), to[1] = tail(cp >> 6), to[2] = tail(cp);
    return 3;
  }
  to[0] = static_cast<char>(0xF0 | cp >> 18), to[1] = tail(cp >> 12), to[2] = tail(cp >> 6), to[3] = tail(cp);
  return 4;
}

// After a backslash: its meaning in `to` (up to 4 bytes) and the character after it; null if it is none of JSON's.
const char* read_escape(const char* p, char* to, std::size_t& n) {
  constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
  if (*p == 'u') {
    std::uint32_t cp = 0;
    p = read_code_point(p + 1, cp);
    if (p != nullptr) n = encode_utf8(cp, to);
    return p;
  }
  const std::size_t at = *p == '\0' ? std::string_view::npos : kFrom.find(*p);
  if (at == std::string_view::npos) return nullptr;
  to[0] = kTo[at];
  n = 1;
  return p + 1;
}

class BytesWriter {
 public:
  BytesWriter(Context& c, std::span<std::byte> room) : c_(c), room_(room) {}
  std::uint64_t used() const { return used_; }

  // Decodes the JSON string at `at` into the next element.
  const char* element(const char* at, std::uint64_t i) {
    if (*at != '"') return c_.fail(wrong_value(c_, at, i));
    const std::uint64_t start = used_;
    if (!append("\0\0\0\0", kBytesPrefix)) return c_.fail(too_large());
    const char* p = at + 1;
    for (;;) {
      const char* run = p;
      while (*p != '"' && *p != '\\' && static_cast<unsigned char>(*p) >= 0x20) ++p;
      if (!append(run, static_cast<std::size_t>(p - run))) return c_.fail(too_large());
      if (*p == '"') break;
      if (*p != '\\') return c_.fail(wrong_value(c_, at, i));  // a bare control character
      char decoded[4];
      std::size_t n = 0;
      p = read_escape(p + 1, decoded, n);
      if (p == nullptr) return c_.fail(wrong_value(c_, at, i));
      if (!append(decoded, n)) return c_.fail(too_large());
    }
    const std::uint64_t length = used_ - start - kBytesPrefix;
    if (length > UINT32_MAX) return c_.fail(too_large());
    const auto prefix = static_cast<std::uint32_t>(length);
    std::memcpy(room_.data() + start, &prefix, kBytesPrefix);
    return p + 1;
  }

 private:
  bool append(const char* s, std::size_t n) {
    if (n > room_.size() - used_) return false;
    if (n > 0) std::memcpy(room_.data() + used_, s, n);
    used_ += n;
    return true;
  }
  Error too_large() const {
    return invalid("payload_too_large",
                   "input \"{}\": its strings need more than the {} bytes left for inputs; send less in one request",
                   c_.tensor, room_.size());
  }
  Context& c_;
  std::span<std::byte> room_;
  std::uint64_t used_ = 0;
};

Status parse_fixed(const char* p, Context& c, std::byte* to) {
  switch (c.dtype) {
    case Dtype::kBool:
      return booleans(p, c, to);
    case Dtype::kUint8:
      return numbers<std::uint8_t>(p, c, to);
    case Dtype::kUint16:
      return numbers<std::uint16_t>(p, c, to);
    case Dtype::kUint32:
      return numbers<std::uint32_t>(p, c, to);
    case Dtype::kUint64:
      return numbers<std::uint64_t>(p, c, to);
    case Dtype::kInt8:
      return numbers<std::int8_t>(p, c, to);
    case Dtype::kInt16:
      return numbers<std::int16_t>(p, c, to);
    case Dtype::kInt32:
      return numbers<std::int32_t>(p, c, to);
    case Dtype::kInt64:
      return numbers<std::int64_t>(p, c, to);
    case Dtype::kFp16:
    case Dtype::kBf16:
      return sixteen_bit_floats(p, c, to);
    case Dtype::kFp32:
      return numbers<float>(p, c, to);
    case Dtype::kFp64:
      return numbers<double>(p, c, to);
    case Dtype::kInvalid:
    case Dtype::kBytes:
      break;
  }
  return invalid("datatype_mismatch", "input \"{}\": unknown datatype", c.tensor);
}

}  // namespace

Result<std::uint64_t> parse_json_data(std::string_view text, std::string_view tensor, Dtype dtype, std::uint64_t count,
                                      std::span<std::byte> room) {
  Context c{tensor, dtype, count};
  if (dtype == Dtype::kBytes) {
    BytesWriter w(c, room);
    MAYFLY_TRY(walk(text.data(), c, [&](const char* at, std::uint64_t i) { return w.element(at, i); }));
    return w.used();
  }
  MAYFLY_TRY(parse_fixed(text.data(), c, room.data()));
  return count * dtype_size(dtype);
}

}  // namespace mayfly
