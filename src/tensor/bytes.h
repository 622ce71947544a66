// The layout of BYTES tensors: a run of elements, each a 4-byte little-endian length and that many bytes. Values; the
// readers take hostile memory, possibly changing under them: every length is loaded once and checked before use.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace mayfly {

// True if `data` holds exactly `count` elements and nothing else.
bool bytes_well_formed(std::span<const std::byte> data, std::uint64_t count);

// Takes the next element off the front of `data`; nothing if it is cut short.
std::optional<std::span<const std::byte>> next_bytes_element(std::span<const std::byte>& data);

inline constexpr std::size_t kBytesPrefix = 4;

}  // namespace mayfly
