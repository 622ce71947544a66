// Pictures to model input: decode (PNG, JPEG), RGB, centre crop, resize, normalise. Pure functions over memory; no
// I/O.
//
// The resize is Pillow's bicubic (a = -0.5, support widened when shrinking, horizontal pass first, both passes
// rounded to 8 bits, 22-bit fixed point), bit for bit: models are trained and validated with it. EXIF rotation is not
// applied. Fails with "invalid_image" or "image_too_large" (kInvalidArgument), before decoding where the header says
// enough.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "worker_ipc/arena.h"

namespace mayfly {

// Interleaved RGB rows, borrowed. stride: bytes from row to row.
struct RgbView {
  const unsigned char* data = nullptr;
  std::uint32_t width = 0, height = 0;
  std::size_t stride = 0;
};

RgbView centre_square(const RgbView& image, std::uint32_t permille);
// → width * height * 3 bytes, interleaved. Sizes > 0.
std::vector<unsigned char> resize_bicubic(const RgbView& image, std::uint32_t width, std::uint32_t height);

// out: f32[3, height, width] (layout 0) or f32[height, width, 3] (layout 1), (pixel - mean) * scale; resized to fit.
Status image_to_tensor(std::span<const std::byte> encoded, const TransformConfig& config, std::vector<float>& out);

}  // namespace mayfly
