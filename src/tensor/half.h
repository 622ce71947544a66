// FP16 (IEEE 754 binary16) and BF16 to and from the types the compiler knows. Pure functions, no table.
//
// Narrowing rounds to nearest, ties to even, straight from binary64, and turns what is too large into infinity.
// Subnormals are kept. NaN stays a (quiet) NaN.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace mayfly {

inline float float_from_bf16(std::uint16_t h) { return std::bit_cast<float>(std::uint32_t{h} << 16); }

inline float float_from_half(std::uint16_t h) {
  const std::uint32_t sign = std::uint32_t{h & 0x8000U} << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1FU;
  const std::uint32_t fraction = h & 0x3FFU;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24F;  // subnormal half: exact in binary32
  return sign != 0 ? -magnitude : magnitude;
}

// Rounds to a 16-bit float of `kFractionBits` fraction bits and an exponent of 15 - kFractionBits bits.
template <int kFractionBits>
std::uint16_t narrow_to_16(double d) {
  constexpr int kExponentBits = 15 - kFractionBits;
  constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  constexpr std::uint64_t kInf = std::uint64_t{(1U << kExponentBits) - 1} << kFractionBits;
  const auto sign = static_cast<std::uint16_t>(std::signbit(d) ? 0x8000 : 0);
  const double a = std::fabs(d);
  if (std::isnan(a)) return static_cast<std::uint16_t>(sign | kInf | (1U << (kFractionBits - 1)));
  if (std::isinf(a)) return static_cast<std::uint16_t>(sign | kInf);
  if (a == 0) return sign;
  int e = std::ilogb(a);
  if (e < 1 - kBias) e = 1 - kBias;  // subnormals share the smallest exponent
  if (e > kBias) return static_cast<std::uint16_t>(sign | kInf);
  // Fraction including the hidden bit, as an integer; scalbn is exact and nearbyint rounds ties to even.
  const auto scaled = static_cast<std::uint64_t>(std::nearbyint(std::scalbn(a, kFractionBits - e)));
  // Adding lets a carry of the rounding flow into the exponent, up to infinity; a subnormal has no hidden bit.
  const std::uint64_t bits = (static_cast<std::uint64_t>(e + kBias - 1) << kFractionBits) + scaled;
  return static_cast<std::uint16_t>(sign | bits);
}

inline std::uint16_t half_from_double(double d) { return narrow_to_16<10>(d); }
inline std::uint16_t bf16_from_double(double d) { return narrow_to_16<7>(d); }

}  // namespace mayfly
