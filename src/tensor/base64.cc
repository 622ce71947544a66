#include "tensor/base64.h"

#include <array>

namespace mayfly {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kNone = 0xFF;

constexpr auto kValues = [] {
  std::array<std::uint8_t, 256> out{};
  out.fill(kNone);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i)
    out[static_cast<std::uint8_t>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  return out;
}();

}  // namespace

void append_base64(std::string& out, std::span<const std::byte> data) {
  for (std::size_t i = 0; i < data.size(); i += 3) {
    const std::size_t n = data.size() - i < 3 ? data.size() - i : 3;
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) bits = bits << 8 | (k < n ? std::to_integer<std::uint32_t>(data[i + k]) : 0);
    for (std::size_t k = 0; k < 4; ++k) out += k <= n ? kAlphabet[bits >> (18 - 6 * k) & 63] : '=';
  }
}

std::optional<std::size_t> decode_base64(std::string_view text, std::span<std::byte> room) {
  for (int pad = 0; pad < 2 && !text.empty() && text.back() == '=' && text.size() % 4 != 1; ++pad) {
    if (pad == 1 && text.size() % 4 != 3) return {};
    if (pad == 0 && text.size() % 4 != 0) return {};
    text.remove_suffix(1);
  }
  if (text.size() % 4 == 1) return {};
  std::size_t used = 0;
  std::uint32_t bits = 0;
  int held = 0;
  for (char c : text) {
    const std::uint8_t v = kValues[static_cast<std::uint8_t>(c)];
    if (v == kNone) return {};
    bits = bits << 6 | v;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    if (used == room.size()) return {};
    room[used++] = static_cast<std::byte>(bits >> held & 0xFF);
  }
  if ((bits & ((1U << held) - 1)) != 0) return {};  // what is left over must be zero
  return used;
}

}  // namespace mayfly
