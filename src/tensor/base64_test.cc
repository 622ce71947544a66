#include "tensor/base64.h"

#include <gtest/gtest.h>

#include <random>

namespace mayfly {
namespace {

std::string encode(std::string_view s) {
  std::string out;
  append_base64(out, std::as_bytes(std::span(s)));
  return out;
}

std::optional<std::string> decode(std::string_view text, std::size_t room = 100) {
  std::string out(room, '\0');
  const auto n = decode_base64(text, std::as_writable_bytes(std::span(out)));
  if (!n) return {};
  out.resize(*n);
  return out;
}

TEST(Base64, TheVectorsOfRfc4648) {
  constexpr std::pair<std::string_view, std::string_view> kVectors[] = {
      {"", ""},
      {"f", "Zg=="},
      {"fo", "Zm8="},
      {"foo", "Zm9v"},
      {"foob", "Zm9vYg=="},
      {"fooba", "Zm9vYmE="},
      {"foobar", "Zm9vYmFy"},
  };
  for (const auto& [plain, text] : kVectors) {
    EXPECT_EQ(encode(plain), text);
    EXPECT_EQ(decode(text), plain);
    EXPECT_EQ(decode(text.substr(0, text.find('='))), plain) << "without padding";
  }
}

TEST(Base64, RefusesWhatIsNone) {
  for (std::string_view bad :
       {"Z", "Zg=", "Zg===", "Zg==Zg==", "Zm9v=", "Zm9v====", "Zm 9v", "Zm9-", "Zh==", "=", "==", "====", "Zm8=="}) {
    EXPECT_EQ(decode(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(decode("Zm9v", 2), std::nullopt) << "three bytes in a room of two";
  EXPECT_EQ(decode("Zm9v", 3), "foo");
}

TEST(Base64, AnyBytesComeBack) {
  std::mt19937 rng(std::random_device{}());
  for (int i = 0; i < 1000; ++i) {
    std::string s(rng() % 60, '\0');
    for (char& c : s) c = static_cast<char>(rng());
    ASSERT_EQ(decode(encode(s)), s);
    ASSERT_LE(s.size(), base64_decoded_bytes(encode(s).size()));
  }
}

}  // namespace
}  // namespace mayfly
