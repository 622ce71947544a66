#include "crypto/hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace mayfly {
namespace {

// FIPS 180-2, appendix B, and the empty string.
TEST(Sha256Test, KnownVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, PiecesEqualTheWhole) {
  const std::string text(10'000, 'x');
  for (std::size_t piece : {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{4097}}) {
    Sha256 hash;
    for (std::size_t at = 0; at < text.size(); at += piece) {
      hash.update(std::span(text).subspan(at, std::min(piece, text.size() - at)));
      hash.update({});
    }
    EXPECT_EQ(hash.hex_digest(), sha256_hex(text)) << piece;
  }
}

TEST(Sha256Test, RestartedItHashesAnother) {
  Sha256 hash;
  hash.update(std::string_view("left over"));
  for (const char* text : {"abc", "", "mf_abc"}) {
    hash.restart();
    hash.update(std::string_view(text));
    EXPECT_EQ(hash.hex_digest(), sha256_hex(text));
  }
}

TEST(Sha256DeathTest, UseAfterTheEndIsABug) {
  Sha256 hash;
  EXPECT_EQ(hash.hex_digest().size(), 64u);
  EXPECT_DEATH(hash.update({}), "check failed");
}

TEST(ConstantTimeEqualTest, ComparesContentAndLength) {
  EXPECT_TRUE(constant_time_equal("", ""));
  EXPECT_TRUE(constant_time_equal("secret", "secret"));
  EXPECT_FALSE(constant_time_equal("secret", "secreT"));
  EXPECT_FALSE(constant_time_equal("secret", "secret0"));
  EXPECT_FALSE(constant_time_equal(std::string_view("a\0b", 3), std::string_view("a\0c", 3)));
}

TEST(RandomTokenTest, LengthAlphabetAndNoRepeats) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::string token = random_token(24);
    ASSERT_EQ(token.size(), 24u);
    ASSERT_TRUE(std::all_of(token.begin(), token.end(), [](unsigned char c) { return std::isalnum(c) != 0; })) << token;
    ASSERT_TRUE(seen.insert(token).second);
  }
  EXPECT_EQ(random_token(0), "");
}

// With a modulo bias the first 8 characters would come 25 % more often than the others. 6,200 expected of each,
// standard deviation 78: a bound of 8 deviations fails once in 10^13 runs.
TEST(RandomTokenTest, EveryCharacterIsAsLikely) {
  std::map<char, int> counts;
  for (char c : random_token(62 * 6200)) ++counts[c];
  EXPECT_EQ(counts.size(), 62u);
  for (auto [c, n] : counts) EXPECT_NEAR(n, 6200, 630) << c;
}

}  // namespace
}  // namespace mayfly
