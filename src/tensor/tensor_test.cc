#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <random>

#include "tensor/bytes.h"
#include "tensor/half.h"
#include "tensor/json.h"
#include "tensor/number_text.h"

namespace mayfly {
namespace {

std::uint64_t test_seed() {
  const std::uint64_t seed = std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

std::string json_string(std::string_view s) {
  std::string out;
  append_json_string(out, s);
  return out;
}

std::string padded(std::string s) {
  s.append(64, '\0');
  return s;
}

Shape shape(std::initializer_list<std::int64_t> dims) {
  Shape s;
  for (const auto d : dims) s.dims[s.rank++] = d;
  return s;
}

TEST(Dtype, NamesRoundTrip) {
  for (std::uint8_t i = 1; i < kDtypeCount; ++i) {
    const auto t = static_cast<Dtype>(i);
    EXPECT_EQ(dtype_from_name(dtype_name(t)), t);
    EXPECT_EQ(dtype_size(t) == 0, t == Dtype::kBytes);
  }
  EXPECT_EQ(dtype_from_name("fp32"), Dtype::kInvalid);
  EXPECT_EQ(dtype_from_name(""), Dtype::kInvalid);
  EXPECT_EQ(dtype_size(static_cast<Dtype>(200)), 0U);
}

TEST(Shape, ElementCount) {
  EXPECT_EQ(element_count(shape({})), 1U);
  EXPECT_EQ(element_count(shape({2, 3, 4})), 24U);
  EXPECT_EQ(element_count(shape({INT64_MAX, INT64_MAX, 0})), 0U);
  EXPECT_EQ(element_count(shape({0, -1})), std::nullopt);
  EXPECT_EQ(element_count(shape({INT64_MAX, 3})), std::nullopt);
  EXPECT_EQ(to_string(shape({1, 3, -1})), "[1,3,-1]");
  EXPECT_EQ(to_string(shape({})), "[]");
}

TEST(SignatureJson, RoundTrips) {
  const Signature s{{{"a\"b", Dtype::kFp32, shape({-1, 4})}}, {{"y", Dtype::kBytes, shape({})}}};
  const std::string text = signature_to_json(s);
  EXPECT_EQ(text, R"({"inputs":[{"name":"a\"b","datatype":"FP32","shape":[-1,4]}],)"
                  R"("outputs":[{"name":"y","datatype":"BYTES","shape":[]}]})");
  const auto back = signature_from_json(text);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(signature_to_json(*back), text);
  EXPECT_EQ(back->input_index("a\"b"), 0);
  EXPECT_EQ(back->output_index("a\"b"), -1);
}

TEST(SignatureJson, RefusesHostileText) {
  const auto with_input = [](const std::string& i) { return "{\"inputs\":[" + i + "],\"outputs\":[]}"; };
  std::string many = R"({"name":"t0","datatype":"FP32","shape":[]})";
  for (int i = 1; i < 33; ++i) many += R"(,{"name":"t)" + std::to_string(i) + R"(","datatype":"FP32","shape":[]})";
  const std::string bad[] = {
      "",
      "[]",
      "{",
      "{}",
      "{\"inputs\":1,\"outputs\":[]}",
      std::string(100'000, '['),
      with_input("1"),
      with_input(R"({"name":"a","datatype":"FP33","shape":[]})"),
      with_input(R"({"name":"a","datatype":"FP32"})"),
      with_input(R"({"name":"a","datatype":"FP32","shape":[-2]})"),
      with_input(R"({"name":"a","datatype":"FP32","shape":[1.5]})"),
      with_input(R"({"name":"a","datatype":"FP32","shape":[18446744073709551615]})"),
      with_input(R"({"name":"a","datatype":"FP32","shape":[1,1,1,1,1,1,1,1,1]})"),
      with_input(R"({"name":"","datatype":"FP32","shape":[]})"),
      with_input("{\"name\":\"" + std::string(513, 'a') + R"(","datatype":"FP32","shape":[]})"),
      with_input(R"({"name":"a","datatype":"FP32","shape":[]},{"name":"a","datatype":"FP32","shape":[]})"),
      with_input(many)};
  for (const std::string& text : bad) {
    const auto r = signature_from_json(text);
    ASSERT_FALSE(r.ok()) << text.substr(0, 200);
    EXPECT_EQ(r.error().reason, "invalid_signature");
  }
}

TEST(JsonString, EscapesAndRepairs) {
  EXPECT_EQ(json_string("a\"\\\n\x01/"), "\"a\\\"\\\\\\n\\u0001/\"");
  EXPECT_EQ(json_string("gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80"), "\"gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80\"");
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(json_string("\xFF"), "\"" + r + "\"");
  EXPECT_EQ(json_string("\xC0\xAF"), "\"" + r + r + "\"");          // overlong
  EXPECT_EQ(json_string("\xED\xA0\x80"), "\"" + r + r + r + "\"");  // surrogate
  EXPECT_EQ(json_string("\xE2\x82"), "\"" + r + "\"");              // cut short: one piece
  EXPECT_EQ(json_string("\xF0\x9F\x98"
                        "a"),
            "\"" + r + "a\"");
  EXPECT_EQ(json_string("\xF4\x90\x80\x80"), "\"" + r + r + r + r + "\"");
}

TEST(Half, AllValuesRoundTrip) {
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const auto h = static_cast<std::uint16_t>(i);
    const float f = float_from_half(h), b = float_from_bf16(h);
    if (!std::isnan(f)) ASSERT_EQ(half_from_double(static_cast<double>(f)), h);
    if (!std::isnan(b)) ASSERT_EQ(bf16_from_double(static_cast<double>(b)), h);
    ASSERT_EQ(std::isnan(f), (h & 0x7C00) == 0x7C00 && (h & 0x3FF) != 0);
  }
}

TEST(Half, RoundsToNearestEven) {
  for (std::uint16_t h = 0; h < 0x7BFF; ++h) {  // every neighbouring pair of finite halves
    const double a = static_cast<double>(float_from_half(h));
    const double b = static_cast<double>(float_from_half(static_cast<std::uint16_t>(h + 1)));
    const double middle = (a + b) / 2;
    ASSERT_EQ(half_from_double(middle), h % 2 == 0 ? h : h + 1);
    ASSERT_EQ(half_from_double(std::nextafter(middle, 0)), h);
    ASSERT_EQ(half_from_double(std::nextafter(middle, 1e9)), h + 1);
  }
  EXPECT_EQ(half_from_double(65519.99), 0x7BFF);
  EXPECT_EQ(half_from_double(65520), 0x7C00);
  EXPECT_EQ(half_from_double(-1e300), 0xFC00);
  EXPECT_EQ(half_from_double(-0.0), 0x8000);
}

TEST(BytesTensor, WellFormed) {
  const auto check = [](std::string_view s, std::uint64_t n) {
    return bytes_well_formed(std::as_bytes(std::span(s.data(), s.size())), n);
  };
  using std::string_view_literals::operator""sv;
  EXPECT_TRUE(check("", 0));
  EXPECT_TRUE(check("\2\0\0\0ab\0\0\0\0"sv, 2));
  EXPECT_FALSE(check("\2\0\0\0ab\0\0\0\0"sv, 1));
  EXPECT_FALSE(check("\2\0\0\0ab\0\0\0\0"sv, 3));
  EXPECT_FALSE(check("\3\0\0\0ab"sv, 1));
  EXPECT_FALSE(check("\xFF\xFF\xFF\xFF"sv, 1));
  EXPECT_FALSE(check("", UINT64_MAX));
}

template <typename T>
void expect_as_from_chars(const std::string& text) {
  const std::string p = padded(text);
  T want{}, got{};
  const auto r = std::from_chars(text.data(), text.data() + text.size(), want);
  const Decimal d = read_decimal(p.data());
  ASSERT_EQ(d.end, p.data() + text.size()) << text;
  NumberError e;
  if constexpr (std::is_same_v<T, float>)
    e = to_float(d, got);
  else
    e = to_double(d, got);
  if (r.ec == std::errc{} && !std::isinf(want)) {
    ASSERT_EQ(e, NumberError::kNone) << text;
    ASSERT_EQ(std::memcmp(&want, &got, sizeof(T)), 0) << text << " want " << want << " got " << got;
  } else if (e == NumberError::kNone) {
    ASSERT_EQ(got, T{0}) << text;  // underflow
  }
  T plain{};
  if (const char* end = read_plain(p.data(), plain)) {
    ASSERT_EQ(end, d.end) << text;
    ASSERT_EQ(std::memcmp(&want, &plain, sizeof(T)), 0) << text << " want " << want << " got " << plain;
  }
}

// Texts near the places where rounding is decided: printed floats, doubles, and middles of neighbouring floats ± a
// digit.
TEST(NumberText, EqualsFromChars) {
  std::mt19937_64 rng(test_seed());
  for (int i = 0; i < 100'000; ++i) {
    std::string text;
    switch (rng() % 6) {
      case 0:
        text = fmt::format("{}", std::bit_cast<float>(static_cast<std::uint32_t>(rng())));
        break;
      case 5:  // as many digits as they come, around all limits of read_plain()
        text = fmt::format("{}{}", rng() % 2 == 0 ? "-" : "", rng() >> (rng() % 64));
        if (rng() % 2 == 0) text += fmt::format(".{}{}", std::string(rng() % 12, '0'), rng() >> (rng() % 64));
        break;
      case 1:
        text = fmt::format("{}", std::bit_cast<double>(rng()));
        break;
      case 2:
        text = fmt::format("{}.{}", rng() % 100, rng() % 1'000'000'000'000);
        break;
      case 3:
        text = fmt::format("{}e{}", rng() >> (rng() % 64), static_cast<int>(rng() % 80) - 40);
        break;
      default: {
        const float a = std::bit_cast<float>(static_cast<std::uint32_t>(0x3A000000 + rng() % 0x0A000000));
        const double middle = (static_cast<double>(a) + static_cast<double>(std::nextafter(a, 1e9F))) / 2;
        text = fmt::format("{:.{}f}", middle, 5 + rng() % 40);
        if (rng() % 2 == 0) text.back() = static_cast<char>('0' + rng() % 10);
      }
    }
    if (text.find_first_of("ni") != std::string::npos) continue;  // nan, inf
    expect_as_from_chars<float>(text);
    expect_as_from_chars<double>(text);
  }
  for (const char* t : {"0", "-0", "0.0", "-0.0e5", "1e-45", "7e-46", "3.4028235e38", "3.4028236e38", "1e400", "1e-400",
                        "0.000000000000000000000000000000000000000000001", "123456789012345678901234567890",
                        "9007199254740993", "16777217", "1e99999999999999999999", "2.2250738585072011e-308"}) {
    expect_as_from_chars<float>(t);
    expect_as_from_chars<double>(t);
  }
}

// The forms that most numbers have are read at once, the others are left.
TEST(NumberText, Plain) {
  const auto plain = []<typename T>(const char* t, T want) {
    const std::string p = padded(t);
    T got{};
    const char* const end = read_plain(p.data(), got);
    EXPECT_TRUE(end == p.data() + std::strlen(t)) << t;
    EXPECT_EQ(got, want) << t;
  };
  plain("-0.9921875", -0.9921875F);
  plain("0.12345678806304932", 0.12345678806304932F);
  plain("0.0001234567880630493", 0.0001234567880630493F);
  plain("12345678", 12345678.0);
  plain("255", std::uint8_t{255});
  plain("-128", std::int8_t{-128});
  plain("-12345678", std::int64_t{-12345678});
  const auto left = []<typename T>(const char* t, T v) {
    const std::string p = padded(t);
    EXPECT_EQ(read_plain(p.data(), v), nullptr) << t;
  };
  for (const char* t : {"", "-", "+1", "01", "-01", ".5", "1.", "-1.", "1.e3", "1e5", "1E5", "0e1", "NaN", "Infinity",
                        "x", "123456789", "1.23456789012345678901", "0.00000000000000000000001", "1.2.3"}) {
    left(t, 0.0F);
    left(t, 0.0);
    left(t, 0);
  }
  left("1.0", 0);
  left("256", std::uint8_t{0});
  left("-1", std::uint64_t{0});
  left("0.9999999999999999", 0.0);  // more than 53 bits
}

TEST(NumberText, Grammar) {
  for (const char* t : {"", "-", "+1", "01", "-01", ".5", "1.", "1.e3", "1e", "1e+", "NaN", "Infinity", "x", "0x10"}) {
    const std::string p = padded(t);
    const Decimal d = read_decimal(p.data());
    EXPECT_TRUE(d.end == nullptr || *d.end != '\0') << t;
  }
}

TEST(NumberText, Ranges) {
  const auto u8 = [](const char* t) {
    const std::string p = padded(t);
    std::uint8_t v = 0;
    return to_integer(read_decimal(p.data()), v);
  };
  EXPECT_EQ(u8("255"), NumberError::kNone);
  EXPECT_EQ(u8("-0"), NumberError::kNone);
  EXPECT_EQ(u8("256"), NumberError::kRange);
  EXPECT_EQ(u8("-1"), NumberError::kRange);
  EXPECT_EQ(u8("99999999999999999999999"), NumberError::kRange);
  EXPECT_EQ(u8("1.0"), NumberError::kSyntax);
  EXPECT_EQ(u8("1e1"), NumberError::kSyntax);
  double d = 0;
  const std::string huge = padded("1e400"), tiny = padded("-1e-400");
  EXPECT_EQ(to_double(read_decimal(huge.data()), d), NumberError::kRange);
  EXPECT_EQ(to_double(read_decimal(tiny.data()), d), NumberError::kNone);
  EXPECT_TRUE(d == 0 && std::signbit(d));
}

}  // namespace
}  // namespace mayfly
