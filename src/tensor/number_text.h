// Reading JSON numbers fast, with results equal to std::from_chars (correct rounding) for every input.
//
// All functions take a pointer into text that ends with a byte that can't continue a number and has at least 8 readable
// bytes after it (the padding that JSON parsers want): so there are no bounds checks. They accept JSON's grammar only
// (RFC 8259, section 6: no leading zeros, no leading '+', digits on both sides of the point).
// Method: up to 19 digits into a 64-bit integer, eight at a time; then Clinger's fast path ("How to read floating
// point numbers accurately", 1990) where the integer and the power of ten are exact, else std::from_chars. read_plain()
// does all of it at once for the common forms, and most of what a large JSON tensor costs is this function.
#pragma once
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace mayfly {

enum class NumberError : std::uint8_t { kNone, kSyntax, kRange };

struct Decimal {
  const char* begin = nullptr;
  const char* end = nullptr;  // null: not a JSON number
  std::uint64_t digits = 0;   // value = ±digits * 10^exponent, where exact
  std::int64_t exponent = 0;
  std::int64_t digit_count = 0;  // significant digits
  bool negative = false;
  bool integer = true;  // no fraction, no exponent
  bool exact() const { return digit_count <= 19; }
};

namespace number_internal {

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

inline bool eight_digits(const char* p) {
  std::uint64_t v = 0;
  std::memcpy(&v, p, 8);
  return ((v & 0xF0F0F0F0F0F0F0F0ULL) | (((v + 0x0606060606060606ULL) & 0xF0F0F0F0F0F0F0F0ULL) >> 4)) ==
         0x3333333333333333ULL;
}

// Value of eight ASCII digits by three multiplications (Lemire, "Quickly parsing eight digits", 2018).
inline std::uint64_t eight_digit_value(const char* p) {
  std::uint64_t v = 0;
  std::memcpy(&v, p, 8);
  v = (v & 0x0F0F0F0F0F0F0F0FULL) * 2561 >> 8;
  v = (v & 0x00FF00FF00FF00FFULL) * 6553601 >> 16;
  return (v & 0x0000FFFF0000FFFFULL) * 42949672960001ULL >> 32;
}

// Reads digits into `value` (wrapping past 19 of them: the caller looks at the count).
inline const char* read_digits(const char* p, std::uint64_t& value) {
  while (eight_digits(p)) {
    value = value * 100000000 + eight_digit_value(p);
    p += 8;
  }
  while (is_digit(*p)) value = value * 10 + static_cast<std::uint64_t>(*p++ - '0');
  return p;
}

inline const char* read_exponent(const char* p, std::int64_t& exponent) {
  ++p;  // 'e'
  const bool negative = *p == '-';
  if (*p == '-' || *p == '+') ++p;
  if (!is_digit(*p)) return nullptr;
  std::int64_t e = 0;
  for (; is_digit(*p); ++p) {
    if (e < 100'000'000'000) e = e * 10 + (*p - '0');
  }
  exponent += negative ? -e : e;
  return p;
}

inline constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

inline double scale(double w, std::int64_t e) { return e < 0 ? w / kPowers[-e] : w * kPowers[e]; }

// The float nearest to ±digits * 10^exponent, exponent in [-22, 22]; false where this can't tell.
inline bool nearest_float(std::uint64_t digits, std::int64_t exponent, bool negative, float& out) {
  // At most two roundings, each half a unit of binary64: v is within 2 units of the true value. So v rounds to the
  // same float unless it lies that near the middle between two floats (low 29 bits 1000…0).
  const double v = scale(static_cast<double>(digits), exponent);
  const auto low = static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(v) & ((1ULL << 29) - 1));
  const std::int64_t from_middle = low - (1LL << 28);
  const bool normal = (v >= 0x1p-126 && v < 0x1p127) || digits == 0;
  out = static_cast<float>(negative ? -v : v);
  return normal && (from_middle > 4 || from_middle < -4);
}

// The digits at p, eight at most: how many, and their value. One multiplication for any number of them: numbers of
// changing length cost no mispredicted branch.
inline std::uint32_t take_digits(const char* p, std::uint64_t& value) {
  std::uint64_t v = 0;
  std::memcpy(&v, p, 8);
  v ^= 0x3030303030303030ULL;
  const std::uint64_t others = ((v + 0x7676767676767676ULL) | v) & 0x8080808080808080ULL;
  if (others == 0) {
    value = eight_digit_value(p);
    return 8;
  }
  const auto n = static_cast<std::uint32_t>(std::countr_zero(others)) / 8;
  v = v << 8 << (56 - 8 * n);  // what follows the digits goes, zeros come before them
  v = v * 2561 >> 8;
  v = (v & 0x00FF00FF00FF00FFULL) * 6553601 >> 16;
  value = (v & 0x0000FFFF0000FFFFULL) * 42949672960001ULL >> 32;
  return n;
}

inline constexpr std::uint64_t kDigitPowers[] = {1, 10, 100, 1000, 10'000, 100'000, 1'000'000, 10'000'000, 100'000'000};
// What can still take so many digits and stay below 10^19.
inline constexpr std::uint64_t kRoomForDigits[] = {10'000'000'000'000'000'000ULL,
                                                   1'000'000'000'000'000'000,
                                                   100'000'000'000'000'000,
                                                   10'000'000'000'000'000,
                                                   1'000'000'000'000'000,
                                                   100'000'000'000'000,
                                                   10'000'000'000'000,
                                                   1'000'000'000'000,
                                                   100'000'000'000};

// Appends the digits at p to `digits`; null where that passes 10^19.
inline const char* take_fraction(const char* p, std::uint64_t& digits) {
  for (;;) {
    std::uint64_t part = 0;
    const std::uint32_t n = take_digits(p, part);
    if (digits >= kRoomForDigits[n]) return nullptr;
    digits = digits * kDigitPowers[n] + part;
    p += n;
    if (n < 8) return p;
  }
}

template <typename T>
NumberError slow_float(const Decimal& d, T& out) {
  const auto r = std::from_chars(d.begin, d.end, out);
  if (r.ec == std::errc{}) return std::isinf(out) ? NumberError::kRange : NumberError::kNone;
  // Out of range is both: too large, or too small to tell from zero (which JSON senders mean as zero).
  if (d.exponent + d.digit_count > 0) return NumberError::kRange;
  out = d.negative ? -T{0} : T{0};
  return NumberError::kNone;
}

}  // namespace number_internal

inline Decimal read_decimal(const char* p) {
  using namespace number_internal;
  Decimal d;
  d.begin = p;
  d.negative = *p == '-';
  if (d.negative) ++p;
  if (!is_digit(*p)) return d;
  const char* first = p;
  const bool leading_zero = *p == '0';
  p = leading_zero ? p + 1 : read_digits(p, d.digits);
  if (leading_zero && is_digit(*p)) return d;
  d.digit_count = leading_zero ? 0 : p - first;
  if (*p == '.') {
    d.integer = false;
    const char* fraction = ++p;
    if (leading_zero)
      while (*p == '0') ++p;  // not significant
    const char* significant = p;
    p = read_digits(p, d.digits);
    if (p == fraction) return d;
    d.digit_count += p - significant;
    d.exponent = fraction - p;
  }
  if (*p == 'e' || *p == 'E') {
    d.integer = false;
    p = read_exponent(p, d.exponent);
  }
  d.end = p;
  return d;
}

inline NumberError to_double(const Decimal& d, double& out) {
  if (d.end == nullptr) return NumberError::kSyntax;
  if (d.exact() && d.digits <= (1ULL << 53) && d.exponent >= -22 && d.exponent <= 22) {
    const double v = number_internal::scale(static_cast<double>(d.digits), d.exponent);
    out = d.negative ? -v : v;
    return NumberError::kNone;
  }
  return number_internal::slow_float(d, out);
}

inline NumberError to_float(const Decimal& d, float& out) {
  if (d.end == nullptr) return NumberError::kSyntax;
  if (d.exact() && d.exponent >= -22 && d.exponent <= 22 &&
      number_internal::nearest_float(d.digits, d.exponent, d.negative, out)) {
    return NumberError::kNone;
  }
  return number_internal::slow_float(d, out);
}

// Integer types up to 64 bits. A fraction or an exponent is kSyntax: integers are written as integers.
template <typename T>
NumberError to_integer(const Decimal& d, T& out) {
  if (d.end == nullptr || !d.integer) return NumberError::kSyntax;
  const auto r = std::from_chars(d.begin, d.end, out);
  if (r.ec == std::errc{} && r.ptr == d.end) return NumberError::kNone;
  // "-0" and "-1" for unsigned types: from_chars takes no sign there.
  if (d.negative && d.digits == 0 && d.exact()) {
    out = 0;
    return NumberError::kNone;
  }
  return NumberError::kRange;
}

// Reads a number as most are written: no exponent, up to 8 digits before the point and 22 after it, 19 of them
// significant. The first character after it; null where it is written otherwise, is no number, is out of range or does
// not round at once: then read_decimal() and the functions above say what it is.
template <typename T>
[[gnu::always_inline]] inline const char* read_plain(const char* p, T& out) {
  using namespace number_internal;
  const bool negative = *p == '-';
  p += negative ? 1 : 0;
  if (!is_digit(*p)) return nullptr;
  std::uint64_t digits = static_cast<std::uint64_t>(*p - '0');
  if (!is_digit(p[1])) {
    ++p;
  } else {
    if (digits == 0) return nullptr;
    p += take_digits(p, digits);
  }
  std::int64_t exponent = 0;
  if constexpr (std::is_floating_point_v<T>) {
    if (*p == '.') {
      const char* const fraction = p + 1;
      p = take_fraction(fraction, digits);
      if (p == nullptr || p == fraction) return nullptr;
      exponent = fraction - p;
      if (exponent < -22) return nullptr;
    }
  }
  if (is_digit(*p) || *p == '.' || *p == 'e' || *p == 'E') return nullptr;
  if constexpr (std::is_same_v<T, float>) {
    return nearest_float(digits, exponent, negative, out) ? p : nullptr;
  } else if constexpr (std::is_same_v<T, double>) {
    const double v = scale(static_cast<double>(digits), exponent);
    out = negative ? -v : v;
    return digits <= (1ULL << 53) ? p : nullptr;
  } else {
    const auto v = negative ? -static_cast<std::int64_t>(digits) : static_cast<std::int64_t>(digits);
    out = static_cast<T>(v);
    return std::in_range<T>(v) ? p : nullptr;
  }
}

}  // namespace mayfly
