// PNG and JPEG to 8-bit RGB by stb_image, kept in a translation unit of its own. Runs only inside an instance: the
// bytes are a caller's. Every single allocation is capped from the picture's stated size, so that a stream that
// inflates to more than its header says fails instead of eating memory. Not reentrant across threads without cost:
// the cap is thread-local.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace mayfly {

struct StbPixelsFree {
  void operator()(unsigned char* p) const;
};
using StbPixels = std::unique_ptr<unsigned char, StbPixelsFree>;  // width * height * 3 bytes

// False if the bytes are neither.
bool stb_size(std::span<const std::byte> bytes, std::uint32_t& width, std::uint32_t& height);
// Null with a text in `why`.
StbPixels stb_rgb(std::span<const std::byte> bytes, std::uint64_t max_allocation, std::string& why);

}  // namespace mayfly
