// Base64 (RFC 4648, section 4: standard alphabet, padded). Pure; appends to a caller's string or writes into its
// memory.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mayfly {

void append_base64(std::string& out, std::span<const std::byte> data);

// Decodes into `room`: the bytes written. Padding may be missing; anything else that is no base64, or does not fit, is
// nothing. `room` may be larger than needed.
std::optional<std::size_t> decode_base64(std::string_view text, std::span<std::byte> room);

// Bytes that `chars` characters of base64 decode to, at most.
inline constexpr std::size_t base64_decoded_bytes(std::size_t chars) { return chars / 4 * 3 + 3; }

}  // namespace mayfly
