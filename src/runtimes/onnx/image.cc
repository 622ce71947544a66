#include "runtimes/onnx/image.h"

#include <algorithm>
#include <cmath>

#include "runtimes/onnx/stb_decode.h"

namespace mayfly {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;  // Pillow's Resample.c
constexpr double kSupport = 2.0;

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

// For each output position the first source pixel it draws from, and the fixed-point weights of those that follow.
struct Taps {
  std::vector<std::uint32_t> first, count;
  std::vector<std::int32_t> weights;  // [output][per_output]
  std::size_t per_output = 0;
};

Taps make_taps(std::uint32_t in, std::uint32_t out) {
  const double scale = static_cast<double>(in) / out;
  const double filter_scale = std::max(scale, 1.0);
  const double support = kSupport * filter_scale, inverse = 1.0 / filter_scale;
  Taps t;
  t.per_output = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
  t.first.resize(out);
  t.count.resize(out);
  t.weights.resize(t.per_output * out);
  std::vector<double> w(t.per_output);
  for (std::uint32_t o = 0; o < out; ++o) {
    const double centre = (o + 0.5) * scale;
    const auto first = static_cast<std::uint32_t>(std::max(0.0, centre - support + 0.5));
    const auto last = static_cast<std::uint32_t>(std::min(static_cast<double>(in), centre + support + 0.5));
    double sum = 0;
    for (std::uint32_t i = first; i < last; ++i) sum += w[i - first] = bicubic((i - centre + 0.5) * inverse);
    for (std::uint32_t i = first; i < last; ++i) {
      const double fixed = (sum != 0.0 ? w[i - first] / sum : w[i - first]) * (1 << kPrecisionBits);
      t.weights[o * t.per_output + (i - first)] = static_cast<std::int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
    t.first[o] = first;
    t.count[o] = last - first;
  }
  return t;
}

// One output byte: the weighted sum of `count` bytes that lie `step` apart.
unsigned char weigh(const unsigned char* p, std::size_t step, const std::int32_t* w, std::uint32_t count) {
  std::int64_t sum = std::int64_t{1} << (kPrecisionBits - 1);
  for (std::uint32_t i = 0; i < count; ++i) sum += std::int64_t{p[i * step]} * w[i];
  return static_cast<unsigned char>(std::clamp<std::int64_t>(sum >> kPrecisionBits, 0, 255));
}

std::vector<unsigned char> resize_rows(const RgbView& v, std::uint32_t width) {
  const Taps t = make_taps(v.width, width);
  std::vector<unsigned char> out(std::size_t{width} * v.height * 3);
  unsigned char* to = out.data();
  for (std::uint32_t y = 0; y < v.height; ++y) {
    const unsigned char* row = v.data + y * v.stride;
    for (std::uint32_t x = 0; x < width; ++x) {
      const std::int32_t* w = &t.weights[x * t.per_output];
      for (std::size_t c = 0; c < 3; ++c) *to++ = weigh(row + std::size_t{t.first[x]} * 3 + c, 3, w, t.count[x]);
    }
  }
  return out;
}

std::vector<unsigned char> resize_columns(const RgbView& v, std::uint32_t height) {
  const Taps t = make_taps(v.height, height);
  const std::size_t row_bytes = std::size_t{v.width} * 3;
  std::vector<unsigned char> out(row_bytes * height);
  unsigned char* to = out.data();
  for (std::uint32_t y = 0; y < height; ++y) {
    const unsigned char* from = v.data + t.first[y] * v.stride;
    for (std::size_t x = 0; x < row_bytes; ++x)
      *to++ = weigh(from + x, v.stride, &t.weights[y * t.per_output], t.count[y]);
  }
  return out;
}

void normalise(const std::vector<unsigned char>& rgb, const TransformConfig& config, std::vector<float>& out) {
  const std::size_t pixels = rgb.size() / 3;
  out.resize(rgb.size());
  for (std::size_t i = 0; i < pixels; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      const float value = (static_cast<float>(rgb[i * 3 + c]) - config.mean[c]) * config.scale[c];
      out[config.layout == 1 ? i * 3 + c : c * pixels + i] = value;
    }
  }
}

}  // namespace

RgbView centre_square(const RgbView& image, std::uint32_t permille) {
  const std::uint64_t shorter = std::min(image.width, image.height);
  const auto side =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>((shorter * permille + 500) / 1000, 1, shorter));
  const std::size_t left = (image.width - side) / 2, top = (image.height - side) / 2;
  return {image.data + top * image.stride + left * 3, side, side, image.stride};
}

std::vector<unsigned char> resize_bicubic(const RgbView& image, std::uint32_t width, std::uint32_t height) {
  if (image.width == width && image.height == height) {
    std::vector<unsigned char> out;
    for (std::uint32_t y = 0; y < height; ++y) {
      out.insert(out.end(), image.data + y * image.stride, image.data + y * image.stride + std::size_t{width} * 3);
    }
    return out;
  }
  if (image.width == width) return resize_columns(image, height);  // Pillow leaves out a pass that changes nothing
  std::vector<unsigned char> rows = resize_rows(image, width);
  if (image.height == height) return rows;
  return resize_columns({rows.data(), width, image.height, std::size_t{width} * 3}, height);
}

Status image_to_tensor(std::span<const std::byte> encoded, const TransformConfig& config, std::vector<float>& out) {
  RgbView view;
  if (!stb_size(encoded, view.width, view.height)) {
    return invalid("invalid_image", "the body of {} bytes is no PNG or JPEG picture", encoded.size());
  }
  const std::uint64_t pixels = std::uint64_t{view.width} * view.height;
  if (pixels > config.max_pixels) {
    return invalid("image_too_large", "image too large: {} x {}, limit {} pixels; send a smaller picture", view.width,
                   view.height, config.max_pixels);
  }
  // The horizontal pass keeps the picture's height: a thin, tall picture must not turn into a broad one.
  if (config.crop_permille == 0 && std::uint64_t{config.width} * view.height > config.max_pixels) {
    return invalid("image_too_large",
                   "image too tall: {} x {} resized to {} columns passes the limit of {} pixels; send a "
                   "smaller picture",
                   view.width, view.height, config.width, config.max_pixels);
  }
  // 16 bits, four channels, a filter byte per row, and a buffer that doubles: at most 32 bytes a pixel are honest.
  const std::uint64_t cap = pixels * 32 + view.height * std::uint64_t{8} + encoded.size() * 2 + (1 << 20);
  std::string why;
  const StbPixels rgb = stb_rgb(encoded, cap, why);
  if (!rgb) return invalid("invalid_image", "can't decode the {} x {} picture: {}", view.width, view.height, why);
  view.data = rgb.get();
  view.stride = std::size_t{view.width} * 3;
  normalise(resize_bicubic(config.crop_permille != 0 ? centre_square(view, config.crop_permille) : view, config.width,
                           config.height),
            config, out);
  return Ok{};
}

}  // namespace mayfly
