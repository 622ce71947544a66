#include "tensor/bytes.h"

#include <cstring>

namespace mayfly {

std::optional<std::span<const std::byte>> next_bytes_element(std::span<const std::byte>& data) {
  if (data.size() < kBytesPrefix) return std::nullopt;
  std::uint32_t length = 0;
  std::memcpy(&length, data.data(), kBytesPrefix);
  if (length > data.size() - kBytesPrefix) return std::nullopt;
  const auto element = data.subspan(kBytesPrefix, length);
  data = data.subspan(kBytesPrefix + length);
  return element;
}

bool bytes_well_formed(std::span<const std::byte> data, std::uint64_t count) {
  // A count that the size can't hold ends the loop at the first missing element.
  for (std::uint64_t i = 0; i < count; ++i) {
    if (!next_bytes_element(data)) return false;
  }
  return data.empty();
}

}  // namespace mayfly
