#include "worker_ipc/oip_data.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <limits>

#include "tensor/base64.h"
#include "tensor/bytes.h"
#include "tensor/half.h"
#include "tensor/number_text.h"
#include "worker_ipc/oip.h"

namespace mayfly {
namespace {

// What an element function and its messages need. `key`: the member of the request that holds the values.
struct Context {
  std::string_view tensor;
  std::string_view key;
  Dtype dtype;
  std::uint64_t count;           // expected; of nested values, the most that fit
  bool lenient = false;          // NaN, Infinity and {"b64": …} are values
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
  return invalid("invalid_value", "input \"{}\": element {} of \"{}\" is {}; expected a {} value", c.tensor, i, c.key,
                 excerpt(p), dtype_name(c.dtype));
}

Error out_of_range(const Context& c, const char* p, std::uint64_t i) {
  return invalid("value_out_of_range", "input \"{}\": element {} of \"{}\" is {}, outside the range of {}", c.tensor, i,
                 c.key, excerpt(p), dtype_name(c.dtype));
}

Error wrong_count(const Context& c, std::uint64_t got, bool more) {
  return invalid("tensor_size_mismatch", "input \"{}\": \"data\" has {}{} elements; expected {} by its shape", c.tensor,
                 more ? "more than " : "", got, c.count);
}

Error bad_array(const Context& c, const char* p) {
  return invalid("malformed_json", "input \"{}\": \"{}\" is not a well-formed JSON array near \"{}\"", c.tensor, c.key,
                 std::string_view(p, *p == '\0' ? 0 : 1));
}

// Walks the array and calls element(p, i), which returns the first character after the value, or null
// after c.fail(error), for each. (A Result per element costs as much as parsing it.)
struct FlatWalk {
  template <typename F>
  Status operator()(const char* p, Context& c, F&& element);
};

template <typename F>
Status FlatWalk::operator()(const char* p, Context& c, F&& element) {
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
      // Numbers in a row, as large tensors have them.
      for (; p != nullptr && *p == ',' && i < c.count; p = element(p, i++)) {
        const char* const next = p + (p[1] == ' ' ? 2 : 1);
        if (*next != '-' && (*next < '0' || *next > '9')) break;
        p = next;
      }
      if (p == nullptr) return std::move(*c.error);
      want_value = false;
    }
  }
  if (i != c.count) return wrong_count(c, i, false);
  return Ok{};
}

// Walks one value: an element, or arrays that nest evenly. Finds out its shape.
struct NestedWalk {
  Shape shape{};
  const char* end = nullptr;  // after the value
  template <typename F>
  Status operator()(const char* p, Context& c, F&& element);

 private:
  static constexpr std::int64_t kOpen = -1;  // no array of this depth has ended yet
  int rank_ = -1;                            // unknown until the first element or empty array
  std::array<std::int64_t, kMaxRank> counts_{};
  std::size_t depth_ = 0;

  static Error ragged(const Context& c) {
    return invalid("tensor_shape_mismatch",
                   "input \"{}\": the arrays of \"{}\" do not nest evenly; all rows of a tensor have the same shape",
                   c.tensor, c.key);
  }
  // An array begins.
  std::optional<Error> open(const Context& c) {
    if (depth_ == kMaxRank) {
      return invalid("tensor_shape_mismatch", "input \"{}\": \"{}\" is nested deeper than {} arrays", c.tensor, c.key,
                     kMaxRank);
    }
    if (rank_ >= 0 && static_cast<std::size_t>(rank_) == depth_) return ragged(c);
    counts_[depth_++] = 0;
    return {};
  }
  // An array ends; it may be the whole value.
  std::optional<Error> close(const Context& c) {
    std::int64_t& dim = shape.dims[depth_ - 1];
    if (rank_ < 0) rank_ = static_cast<int>(depth_);
    if (dim == kOpen) dim = counts_[depth_ - 1];
    if (dim != counts_[depth_ - 1]) return ragged(c);
    if (counts_[depth_ - 1] == 0 && depth_ != static_cast<std::size_t>(rank_)) return ragged(c);
    if (--depth_ > 0) ++counts_[depth_ - 1];
    return {};
  }
  std::optional<Error> begin_element(const Context& c) {
    if (rank_ < 0) rank_ = static_cast<int>(depth_);
    if (static_cast<std::size_t>(rank_) != depth_) return ragged(c);
    if (depth_ > 0) ++counts_[depth_ - 1];
    return {};
  }
};

template <typename F>
Status NestedWalk::operator()(const char* p, Context& c, F&& element) {
  shape.dims.fill(kOpen);
  std::uint64_t i = 0;
  bool want_value = true;
  bool may_close = false;
  do {
    p = skip_space(p);
    std::optional<Error> fault;
    if (!want_value && *p == ',') {
      want_value = true;
      may_close = false;
      ++p;
    } else if (*p == ']' && depth_ > 0 && (!want_value || may_close)) {
      ++p;
      want_value = false;
      fault = close(c);
    } else if (!want_value) {
      return bad_array(c, p);
    } else if (*p == '[') {
      may_close = true;
      ++p;
      fault = open(c);
    } else {
      if (*p == ',' || *p == ']' || *p == '}' || *p == '\0') return bad_array(c, p);
      fault = begin_element(c);
      if (!fault && i == c.count) {
        fault = invalid("payload_too_large", "input \"{}\": more than the {} elements that there is room for", c.tensor,
                        c.count);
      }
      if (fault) return std::move(*fault);
      p = element(p, i++);
      if (p == nullptr) return std::move(*c.error);
      want_value = false;
    }
    if (fault) return std::move(*fault);
  } while (depth_ > 0);
  end = p;
  shape.rank = static_cast<std::uint8_t>(rank_);
  std::fill(shape.dims.begin() + rank_, shape.dims.end(), 0);
  return Ok{};
}

inline NumberError convert(const Decimal& d, float& v) { return to_float(d, v); }
inline NumberError convert(const Decimal& d, double& v) { return to_double(d, v); }
template <typename T>
  requires std::is_integral_v<T>
NumberError convert(const Decimal& d, T& v) {
  return to_integer(d, v);
}

// The end of a NaN or infinity at p, or null; the value in `v`. TensorFlow Serving reads these words.
const char* read_non_finite(const char* p, double& v) {
  const bool negative = *p == '-';
  if (negative) ++p;
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const auto is = [p](std::string_view word) { return std::strncmp(p, word.data(), word.size()) == 0; };
  const std::size_t n = is("Infinity") ? 8 : is("Inf") || (is("NaN") && !negative) ? 3 : 0;
  if (n == 0 || std::isalnum(static_cast<unsigned char>(p[n])) != 0) return nullptr;
  v = is("NaN") ? std::numeric_limits<double>::quiet_NaN() : negative ? -kInf : kInf;
  return p + n;
}

template <typename T, typename Walk>
Status numbers(Walk& walk, const char* p, Context& c, std::byte* to) {
  return walk(p, c, [&](const char* at, std::uint64_t i) -> const char* {
    T v{};
    if (const char* end = read_plain(at, v)) {
      std::memcpy(to + i * sizeof(T), &v, sizeof(T));
      return end;
    }
    const Decimal d = read_decimal(at);
    const NumberError e = convert(d, v);
    if constexpr (std::is_floating_point_v<T>) {
      double special = 0;
      if (const char* end = e == NumberError::kSyntax && c.lenient ? read_non_finite(at, special) : nullptr) {
        v = static_cast<T>(special);
        std::memcpy(to + i * sizeof(T), &v, sizeof(T));
        return end;
      }
    }
    if (e == NumberError::kSyntax) return c.fail(wrong_value(c, at, i));
    if (e == NumberError::kRange) return c.fail(out_of_range(c, at, i));
    std::memcpy(to + i * sizeof(T), &v, sizeof(T));
    return d.end;
  });
}

// FP16 and BF16 go through binary64: a decimal within 2^-53 of a tie may round the other way, which nobody can see.
template <typename Walk>
Status sixteen_bit_floats(Walk& walk, const char* p, Context& c, std::byte* to) {
  return walk(p, c, [&](const char* at, std::uint64_t i) -> const char* {
    const Decimal d = read_decimal(at);
    double v = 0;
    const NumberError e = to_double(d, v);
    const char* const special = e == NumberError::kSyntax && c.lenient ? read_non_finite(at, v) : nullptr;
    if (e == NumberError::kSyntax && special == nullptr) return c.fail(wrong_value(c, at, i));
    const bool half = c.dtype == Dtype::kFp16;
    const std::uint16_t bits = half ? half_from_double(v) : bf16_from_double(v);
    const bool infinite = (bits & 0x7FFF) == (half ? 0x7C00 : 0x7F80);
    if (e == NumberError::kRange || (infinite && special == nullptr)) return c.fail(out_of_range(c, at, i));
    std::memcpy(to + i * 2, &bits, 2);
    return special != nullptr ? special : d.end;
  });
}

template <typename Walk>
Status booleans(Walk& walk, const char* p, Context& c, std::byte* to) {
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

  // Decodes the JSON string, or {"b64": "…"}, at `at` into the next element.
  const char* element(const char* at, std::uint64_t i) {
    if (const char* text = c_.lenient ? b64_text(at) : nullptr) return base64_element(at, text, i);
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
  const char* base64_element(const char* at, const char* text, std::uint64_t i) {
    const std::uint64_t start = used_;
    if (!append("\0\0\0\0", kBytesPrefix)) return c_.fail(too_large());
    std::uint64_t bytes = 0;
    const char* const end = read_b64(text, room_.subspan(used_), bytes);
    if (end == nullptr) {
      return c_.fail(invalid("invalid_value",
                             "input \"{}\": element {} of \"{}\", {}, is no base64, or does not fit the {} bytes left",
                             c_.tensor, i, c_.key, excerpt(at), room_.size() - used_));
    }
    if (bytes > UINT32_MAX) return c_.fail(too_large());
    const auto prefix = static_cast<std::uint32_t>(bytes);
    std::memcpy(room_.data() + start, &prefix, kBytesPrefix);
    used_ += bytes;
    return end;
  }
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

template <typename Walk>
Status parse_fixed(Walk& walk, const char* p, Context& c, std::byte* to) {
  switch (c.dtype) {
    case Dtype::kBool:
      return booleans(walk, p, c, to);
    case Dtype::kUint8:
      return numbers<std::uint8_t>(walk, p, c, to);
    case Dtype::kUint16:
      return numbers<std::uint16_t>(walk, p, c, to);
    case Dtype::kUint32:
      return numbers<std::uint32_t>(walk, p, c, to);
    case Dtype::kUint64:
      return numbers<std::uint64_t>(walk, p, c, to);
    case Dtype::kInt8:
      return numbers<std::int8_t>(walk, p, c, to);
    case Dtype::kInt16:
      return numbers<std::int16_t>(walk, p, c, to);
    case Dtype::kInt32:
      return numbers<std::int32_t>(walk, p, c, to);
    case Dtype::kInt64:
      return numbers<std::int64_t>(walk, p, c, to);
    case Dtype::kFp16:
    case Dtype::kBf16:
      return sixteen_bit_floats(walk, p, c, to);
    case Dtype::kFp32:
      return numbers<float>(walk, p, c, to);
    case Dtype::kFp64:
      return numbers<double>(walk, p, c, to);
    case Dtype::kInvalid:
    case Dtype::kBytes:
      break;
  }
  return invalid("datatype_mismatch", "input \"{}\": unknown datatype", c.tensor);
}

}  // namespace

Result<std::uint64_t> parse_json_data(std::string_view text, std::string_view tensor, Dtype dtype, std::uint64_t count,
                                      std::span<std::byte> room) {
  Context c{tensor, "data", dtype, count};
  FlatWalk walk;
  if (dtype == Dtype::kBytes) {
    BytesWriter w(c, room);
    MAYFLY_TRY(walk(text.data(), c, [&](const char* at, std::uint64_t i) { return w.element(at, i); }));
    return w.used();
  }
  MAYFLY_TRY(parse_fixed(walk, text.data(), c, room.data()));
  return count * dtype_size(dtype);
}

Result<NestedData> parse_nested_data(const char* text, std::string_view tensor, std::string_view key, Dtype dtype,
                                     std::span<std::byte> room) {
  // BYTES elements take a prefix each, so that many fit at most.
  const std::size_t least = dtype == Dtype::kBytes ? kBytesPrefix : std::max<std::size_t>(dtype_size(dtype), 1);
  Context c{tensor, key, dtype, room.size() / least, true};
  NestedWalk walk;
  NestedData out;
  if (dtype == Dtype::kBytes) {
    BytesWriter w(c, room);
    MAYFLY_TRY(walk(text, c, [&](const char* at, std::uint64_t i) { return w.element(at, i); }));
    out.bytes = w.used();
  } else {
    MAYFLY_TRY(parse_fixed(walk, text, c, room.data()));
    out.bytes = element_count(walk.shape).value_or(0) * dtype_size(dtype);
  }
  out.shape = walk.shape;
  out.end = walk.end;
  return out;
}

const char* b64_text(const char* p) {
  if (*p != '{') return nullptr;
  p = skip_space(p + 1);
  if (std::strncmp(p, "\"b64\"", 5) != 0) return nullptr;
  p = skip_space(p + 5);
  if (*p != ':') return nullptr;
  p = skip_space(p + 1);
  return *p == '"' ? p + 1 : nullptr;
}

const char* read_b64(const char* p, std::span<std::byte> room, std::uint64_t& bytes) {
  const char* const first = p;
  while (*p != '"' && *p != '\\' && *p != '\0') ++p;
  std::string unescaped;  // JSON may write / as \/
  std::string_view text(first, static_cast<std::size_t>(p - first));
  if (*p == '\\') {
    unescaped = text;
    for (; *p != '"' && *p != '\0'; ++p) {
      if (p[0] == '\\' && p[1] == '/') continue;
      unescaped += *p;
    }
    text = unescaped;
  }
  if (*p != '"') return nullptr;
  const auto n = decode_base64(text, room);
  p = skip_space(p + 1);
  if (!n || *p != '}') return nullptr;
  bytes = *n;
  return p + 1;
}

}  // namespace mayfly
