#include "runtimes/onnx/image.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <array>
#include <cmath>

namespace mayfly {
namespace {

// What Pillow makes of synthetic(): resize((8, 8), BICUBIC), the same after a centre crop, resize((4, 3)), row 7 of
// the cropped picture resized to 20 x 20; then synthetic() as PNG, a 16 x 16 JPEG of (200, 100, 50), a PNG that says
// 30000 x 30000.
constexpr std::array<unsigned char, 192> kStretched = {
    3,   88,  177, 31,  118, 213, 97,  166, 115, 184, 55,  104, 158, 122, 63,  124, 79,  156, 130, 87,  155, 180,
    100, 189, 42,  128, 205, 97,  185, 175, 155, 102, 100, 70,  123, 111, 155, 106, 125, 136, 96,  159, 169, 116,
    72,  197, 44,  102, 85,  181, 97,  159, 152, 59,  88,  97,  142, 142, 130, 90,  139, 96,  200, 154, 114, 116,
    202, 115, 96,  98,  126, 62,  131, 169, 29,  106, 73,  122, 97,  119, 73,  137, 74,  158, 127, 85,  180, 181,
    126, 169, 105, 194, 113, 78,  104, 143, 179, 148, 84,  89,  112, 160, 102, 143, 99,  84,  130, 146, 127, 65,
    141, 110, 152, 89,  120, 81,  181, 161, 100, 106, 134, 83,  126, 116, 154, 119, 142, 143, 90,  157, 156, 96,
    102, 136, 149, 162, 60,  120, 157, 128, 56,  116, 176, 124, 141, 74,  168, 108, 79,  135, 126, 72,  135, 163,
    120, 186, 179, 70,  106, 115, 144, 124, 46,  137, 179, 20,  116, 182, 187, 121, 110, 172, 112, 89,  65,  123,
    118, 130, 71,  90,  95,  133, 135, 212, 75,  153, 179, 33,  125, 177, 30,  118,
};
constexpr std::array<unsigned char, 192> kCropped = {
    34,  120, 214, 78,  171, 176, 133, 123, 41,  202, 32,  136, 160, 143, 66,  152, 72,  75,  92,  106, 206, 163,
    46,  104, 100, 193, 199, 163, 149, 64,  114, 52,  151, 58,  154, 93,  170, 103, 90,  123, 108, 210, 162, 76,
    116, 133, 146, 41,  173, 151, 69,  119, 57,  155, 64,  156, 100, 171, 114, 91,  135, 98,  203, 150, 88,  182,
    146, 131, 72,  228, 136, 127, 101, 46,  136, 54,  134, 87,  160, 96,  79,  124, 70,  186, 126, 82,  164, 140,
    105, 207, 202, 133, 132, 114, 212, 137, 27,  132, 196, 122, 190, 49,  86,  94,  160, 86,  145, 135, 114, 49,
    163, 153, 108, 78,  74,  170, 111, 143, 89,  193, 112, 185, 94,  184, 125, 108, 108, 153, 77,  176, 158, 102,
    77,  149, 150, 165, 98,  134, 144, 36,  118, 167, 150, 66,  151, 47,  82,  96,  89,  175, 152, 74,  120, 166,
    138, 206, 194, 52,  122, 139, 125, 63,  100, 137, 175, 49,  143, 179, 215, 63,  126, 77,  176, 69,  67,  48,
    163, 155, 87,  59,  67,  146, 121, 176, 96,  170, 212, 65,  142, 179, 33,  125,
};
constexpr std::array<unsigned char, 36> kShrunk = {
    70,  142, 156, 124, 114, 114, 147, 102, 133, 161, 97,  116, 124, 132, 96,  112, 116, 123,
    138, 109, 146, 124, 129, 116, 139, 102, 127, 128, 112, 123, 144, 104, 128, 113, 100, 138,
};
constexpr std::array<unsigned char, 60> kGrownRow7 = {
    220, 38,  96, 182, 47,  117, 91,  66,  169, 27,  98,  185, 45,  157, 105, 91,  193, 31,  151, 134,
    44,  205, 54, 94,  174, 68,  154, 93,  136, 222, 89,  133, 221, 161, 60,  146, 189, 39,  124, 127,
    111, 196, 91, 164, 248, 155, 121, 214, 230, 74,  157, 222, 128, 114, 182, 214, 82,  165, 244, 67,
};
constexpr std::array<unsigned char, 428> kPng = {
    137, 80,  78,  71,  13,  10,  26,  10,  0,   0,   0,   13,  73,  72,  68,  82,  0,   0,   0,   13,  0,   0,   0,
    9,   8,   2,   0,   0,   0,   102, 24,  49,  61,  0,   0,   1,   115, 73,  68,  65,  84,  120, 218, 1,   104, 1,
    151, 254, 0,   0,   85,  170, 7,   92,  177, 28,  113, 198, 63,  148, 233, 112, 197, 26,  175, 4,   89,  252, 81,
    166, 87,  172, 1,   192, 21,  106, 55,  140, 225, 188, 17,  102, 79,  164, 249, 240, 69,  154, 0,   31,  116, 201,
    51,  136, 221, 85,  170, 255, 133, 218, 47,  195, 24,  109, 15,  100, 185, 105, 190, 19,  209, 38,  123, 71,  156,
    241, 203, 32,  117, 93,  178, 7,   253, 82,  167, 171, 0,   85,  0,   62,  147, 232, 95,  180, 9,   142, 227, 56,
    203, 32,  117, 22,  107, 192, 111, 196, 25,  214, 43,  128, 75,  160, 245, 206, 35,  120, 95,  180, 9,   254, 83,
    168, 171, 0,   85,  102, 187, 16,  0,   93,  178, 7,   139, 224, 53,  199, 28,  113, 17,  102, 187, 105, 190, 19,
    207, 36,  121, 67,  152, 237, 197, 26,  111, 85,  170, 255, 243, 72,  157, 159, 244, 73,  89,  174, 3,   33,  118,
    203, 0,   124, 209, 38,  183, 12,  97,  0,   85,  170, 87,  172, 1,   188, 17,  102, 47,  132, 217, 176, 5,   90,
    63,  148, 233, 220, 49,  134, 135, 220, 49,  64,  149, 234, 7,   92,  177, 220, 49,  134, 0,   155, 240, 69,  227,
    56,  141, 57,  142, 227, 157, 242, 71,  15,  100, 185, 143, 228, 57,  29,  114, 199, 185, 14,  99,  99,  184, 13,
    27,  112, 197, 225, 54,  139, 181, 10,  95,  151, 236, 65,  0,   186, 15,  100, 15,  100, 185, 114, 199, 28,  227,
    56,  141, 98,  183, 12,  239, 68,  153, 138, 223, 52,  51,  136, 221, 234, 63,  148, 175, 4,   89,  130, 215, 44,
    99,  184, 13,  82,  167, 252, 4,   31,  31,  31,  44,  44,  44,  57,  57,  57,  70,  126, 70,  140, 83,  210, 96,
    154, 96,  168, 109, 8,   35,  182, 122, 135, 196, 196, 210, 210, 210, 224, 161, 224, 238, 238, 238, 252, 252, 187,
    4,   31,  31,  31,  44,  44,  44,  57,  57,  125, 70,  70,  70,  83,  223, 153, 167, 96,  96,  109, 181, 181, 195,
    48,  195, 209, 135, 209, 223, 223, 148, 237, 237, 237, 251, 251, 251, 9,   9,   9,   114, 105, 170, 198, 1,   9,
    223, 89,  0,   0,   0,   0,   73,  69,  78,  68,  174, 66,  96,  130,
};
constexpr std::array<unsigned char, 633> kJpeg = {
    255, 216, 255, 224, 0,   16,  74,  70,  73,  70,  0,   1,   1,   0,   0,   1,   0,   1,   0,   0,   255, 219, 0,
    67,  0,   3,   2,   2,   3,   2,   2,   3,   3,   3,   3,   4,   3,   3,   4,   5,   8,   5,   5,   4,   4,   5,
    10,  7,   7,   6,   8,   12,  10,  12,  12,  11,  10,  11,  11,  13,  14,  18,  16,  13,  14,  17,  14,  11,  11,
    16,  22,  16,  17,  19,  20,  21,  21,  21,  12,  15,  23,  24,  22,  20,  24,  18,  20,  21,  20,  255, 219, 0,
    67,  1,   3,   4,   4,   5,   4,   5,   9,   5,   5,   9,   20,  13,  11,  13,  20,  20,  20,  20,  20,  20,  20,
    20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,
    20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  20,  255, 192, 0,
    17,  8,   0,   16,  0,   16,  3,   1,   34,  0,   2,   17,  1,   3,   17,  1,   255, 196, 0,   31,  0,   0,   1,
    5,   1,   1,   1,   1,   1,   1,   0,   0,   0,   0,   0,   0,   0,   0,   1,   2,   3,   4,   5,   6,   7,   8,
    9,   10,  11,  255, 196, 0,   181, 16,  0,   2,   1,   3,   3,   2,   4,   3,   5,   5,   4,   4,   0,   0,   1,
    125, 1,   2,   3,   0,   4,   17,  5,   18,  33,  49,  65,  6,   19,  81,  97,  7,   34,  113, 20,  50,  129, 145,
    161, 8,   35,  66,  177, 193, 21,  82,  209, 240, 36,  51,  98,  114, 130, 9,   10,  22,  23,  24,  25,  26,  37,
    38,  39,  40,  41,  42,  52,  53,  54,  55,  56,  57,  58,  67,  68,  69,  70,  71,  72,  73,  74,  83,  84,  85,
    86,  87,  88,  89,  90,  99,  100, 101, 102, 103, 104, 105, 106, 115, 116, 117, 118, 119, 120, 121, 122, 131, 132,
    133, 134, 135, 136, 137, 138, 146, 147, 148, 149, 150, 151, 152, 153, 154, 162, 163, 164, 165, 166, 167, 168, 169,
    170, 178, 179, 180, 181, 182, 183, 184, 185, 186, 194, 195, 196, 197, 198, 199, 200, 201, 202, 210, 211, 212, 213,
    214, 215, 216, 217, 218, 225, 226, 227, 228, 229, 230, 231, 232, 233, 234, 241, 242, 243, 244, 245, 246, 247, 248,
    249, 250, 255, 196, 0,   31,  1,   0,   3,   1,   1,   1,   1,   1,   1,   1,   1,   1,   0,   0,   0,   0,   0,
    0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  255, 196, 0,   181, 17,  0,   2,   1,   2,   4,   4,
    3,   4,   7,   5,   4,   4,   0,   1,   2,   119, 0,   1,   2,   3,   17,  4,   5,   33,  49,  6,   18,  65,  81,
    7,   97,  113, 19,  34,  50,  129, 8,   20,  66,  145, 161, 177, 193, 9,   35,  51,  82,  240, 21,  98,  114, 209,
    10,  22,  36,  52,  225, 37,  241, 23,  24,  25,  26,  38,  39,  40,  41,  42,  53,  54,  55,  56,  57,  58,  67,
    68,  69,  70,  71,  72,  73,  74,  83,  84,  85,  86,  87,  88,  89,  90,  99,  100, 101, 102, 103, 104, 105, 106,
    115, 116, 117, 118, 119, 120, 121, 122, 130, 131, 132, 133, 134, 135, 136, 137, 138, 146, 147, 148, 149, 150, 151,
    152, 153, 154, 162, 163, 164, 165, 166, 167, 168, 169, 170, 178, 179, 180, 181, 182, 183, 184, 185, 186, 194, 195,
    196, 197, 198, 199, 200, 201, 202, 210, 211, 212, 213, 214, 215, 216, 217, 218, 226, 227, 228, 229, 230, 231, 232,
    233, 234, 242, 243, 244, 245, 246, 247, 248, 249, 250, 255, 218, 0,   12,  3,   1,   0,   2,   17,  3,   17,  0,
    63,  0,   169, 69,  20,  87,  225, 231, 244, 129, 255, 217,
};
constexpr std::array<unsigned char, 69> kHugePng = {
    137, 80, 78, 71, 13,  10, 26,  10,  0,   0,   0,  13, 73, 72, 68, 82, 0,  0,  117, 48,  0,  0,  117,
    48,  8,  2,  0,  0,   0,  233, 69,  111, 237, 0,  0,  0,  12, 73, 68, 65, 84, 120, 156, 99, 96, 160,
    61,  0,  0,  0,  100, 0,  1,   134, 100, 60,  53, 0,  0,  0,  0,  73, 69, 78, 68,  174, 66, 96, 130,
};

constexpr std::uint32_t kWidth = 13, kHeight = 9;

std::vector<unsigned char> synthetic() {
  std::vector<unsigned char> p;
  for (std::uint32_t y = 0; y < kHeight; ++y)
    for (std::uint32_t x = 0; x < kWidth; ++x)
      for (std::uint32_t c = 0; c < 3; ++c)
        p.push_back(static_cast<unsigned char>((x * x * 7 + y * 31 + c * 85 + x * y * 13) % 256));
  return p;
}

RgbView view_of(const std::vector<unsigned char>& p) { return {p.data(), kWidth, kHeight, kWidth * 3}; }

template <std::size_t N>
std::vector<unsigned char> vec(const std::array<unsigned char, N>& a) {
  return {a.begin(), a.end()};
}

template <std::size_t N>
std::span<const std::byte> bytes(const std::array<unsigned char, N>& a) {
  return std::as_bytes(std::span(a));
}

TransformConfig config(std::uint32_t size, std::uint32_t crop, std::uint32_t layout) {
  TransformConfig c;
  c.width = c.height = size;
  c.crop_permille = crop * 1000;
  c.layout = layout;
  return c;
}

TEST(Image, ResizesAsPillowDoes) {
  const auto p = synthetic();
  EXPECT_EQ(resize_bicubic(view_of(p), 8, 8), vec(kStretched));
  EXPECT_EQ(resize_bicubic(view_of(p), 4, 3), vec(kShrunk));
}

TEST(Image, CropsAndGrowsAsPillowDoes) {
  const auto p = synthetic();
  EXPECT_EQ(resize_bicubic(centre_square(view_of(p), 1000), 8, 8), vec(kCropped));
  const auto grown = resize_bicubic(centre_square(view_of(p), 1000), 20, 20);
  EXPECT_EQ(std::vector(grown.begin() + 7 * 60, grown.begin() + 8 * 60), vec(kGrownRow7));
}

TEST(Image, SameSizeChangesNothing) {
  const auto p = synthetic();
  EXPECT_EQ(resize_bicubic(view_of(p), kWidth, kHeight), p);
}

TEST(Image, PngToChannelsFirst) {
  TransformConfig c = config(8, 1, 0);
  c.mean[1] = 100;
  c.scale[1] = 0.5F;
  std::vector<float> out;
  ASSERT_TRUE(image_to_tensor(bytes(kPng), c, out).ok());
  ASSERT_EQ(out.size(), 192U);
  for (std::size_t i = 0; i < 64; ++i) {
    EXPECT_FLOAT_EQ(out[i], static_cast<float>(kCropped[i * 3]));
    EXPECT_FLOAT_EQ(out[64 + i], (static_cast<float>(kCropped[i * 3 + 1]) - 100) * 0.5F);
  }
}

TEST(Image, PngToChannelsLast) {
  std::vector<float> out;
  ASSERT_TRUE(image_to_tensor(bytes(kPng), config(8, 0, 1), out).ok());
  ASSERT_EQ(out.size(), 192U);
  for (std::size_t i = 0; i < 192; ++i) EXPECT_FLOAT_EQ(out[i], static_cast<float>(kStretched[i]));
}

TEST(Image, DecodesJpeg) {
  std::vector<float> out;
  ASSERT_TRUE(image_to_tensor(bytes(kJpeg), config(4, 1, 1), out).ok());
  for (std::size_t i = 0; i < 48; ++i) EXPECT_NEAR(out[i], (std::array{200.F, 100.F, 50.F})[i % 3], 3.F);
}

TEST(Image, RefusesABombBeforeDecoding) {
  std::vector<float> out;
  const auto st = image_to_tensor(bytes(kHugePng), config(8, 1, 0), out);
  ASSERT_FALSE(st.ok());
  EXPECT_EQ(st.error().reason, "image_too_large");
  EXPECT_NE(st.error().message.find("30000 x 30000, limit 50000000 pixels"), std::string::npos) << st.error().message;
}

// An 8 x 8 picture whose data inflate to 256 MiB: stopped by the allocation limit.
TEST(Image, StopsAnInflatingStream) {
  const std::vector<unsigned char> zeros(std::size_t{256} << 20);
  uLongf n = compressBound(zeros.size());
  std::vector<unsigned char> idat(n);
  ASSERT_EQ(compress2(idat.data(), &n, zeros.data(), zeros.size(), 1), Z_OK);
  std::vector<unsigned char> png(kHugePng.begin(), kHugePng.begin() + 33);
  png[18] = png[19] = png[22] = png[23] = 0;
  png[19] = png[23] = 8;
  for (int shift = 24; shift >= 0; shift -= 8) png.push_back(static_cast<unsigned char>(n >> shift & 0xFF));
  for (const char c : {'I', 'D', 'A', 'T'}) png.push_back(static_cast<unsigned char>(c));
  png.insert(png.end(), idat.begin(), idat.begin() + static_cast<std::ptrdiff_t>(n));
  png.insert(png.end(), 4, 0);
  png.insert(png.end(), kHugePng.end() - 12, kHugePng.end());
  std::vector<float> out;
  const auto st = image_to_tensor(std::as_bytes(std::span(png)), config(8, 1, 0), out);
  ASSERT_FALSE(st.ok());
  EXPECT_EQ(st.error().reason, "invalid_image");
  EXPECT_NE(st.error().message.find("outofmem"), std::string::npos) << st.error().message;
}

TEST(Image, RefusesGarbageAndCutPictures) {
  std::vector<float> out;
  const std::string text = "not a picture at all";
  EXPECT_EQ(image_to_tensor(std::as_bytes(std::span(text)), config(8, 1, 0), out).error().reason, "invalid_image");
  for (std::size_t n = 1; n < kPng.size() - 20; n += 7) {
    const auto st = image_to_tensor(bytes(kPng).first(n), config(8, 1, 0), out);
    ASSERT_FALSE(st.ok()) << n;
    EXPECT_EQ(st.error().reason, "invalid_image");
  }
}

}  // namespace
}  // namespace mayfly
