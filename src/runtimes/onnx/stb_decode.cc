#include "runtimes/onnx/stb_decode.h"

#include <climits>
#include <cstdlib>
#include <cstring>

namespace {

thread_local std::size_t allocation_limit = SIZE_MAX;

// Read here, since stb's own look at the header fails for a large picture without telling its size.
bool png_size(std::span<const std::byte> bytes, std::uint32_t& width, std::uint32_t& height) {
  constexpr unsigned char kStart[16] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R'};
  if (bytes.size() < 24 || std::memcmp(bytes.data(), kStart, sizeof kStart) != 0) return false;
  auto big_endian = [&](std::size_t at) {
    std::uint32_t v = 0;
    for (std::size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<std::uint32_t>(bytes[at + i]);
    return v;
  };
  width = big_endian(16);
  height = big_endian(20);
  return width > 0 && height > 0;
}

void* limited_realloc(void* p, std::size_t n) { return n > allocation_limit ? nullptr : std::realloc(p, n); }
void* limited_malloc(std::size_t n) { return n > allocation_limit ? nullptr : std::malloc(n); }

}  // namespace

#define STBI_MALLOC(n) limited_malloc(n)
#define STBI_REALLOC(p, n) limited_realloc(p, n)
#define STBI_FREE(p) std::free(p)
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Weverything"
#include <stb/stb_image.h>
#pragma clang diagnostic pop

namespace mayfly {

void StbPixelsFree::operator()(unsigned char* p) const { std::free(p); }

bool stb_size(std::span<const std::byte> bytes, std::uint32_t& width, std::uint32_t& height) {
  if (bytes.size() > INT_MAX) return false;
  if (png_size(bytes, width, height)) return true;
  int w = 0, h = 0, channels = 0;
  const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
  if (stbi_info_from_memory(data, static_cast<int>(bytes.size()), &w, &h, &channels) == 0 || w <= 0 || h <= 0)
    return false;
  width = static_cast<std::uint32_t>(w);
  height = static_cast<std::uint32_t>(h);
  return true;
}

StbPixels stb_rgb(std::span<const std::byte> bytes, std::uint64_t max_allocation, std::string& why) {
  int w = 0, h = 0, channels = 0;
  const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
  allocation_limit = max_allocation;
  StbPixels pixels(stbi_load_from_memory(data, static_cast<int>(bytes.size()), &w, &h, &channels, 3));
  if (!pixels) why = stbi_failure_reason() != nullptr ? stbi_failure_reason() : "unknown cause";
  return pixels;
}

}  // namespace mayfly
