// Depth is bounded, and what is accepted is what nlohmann accepts.
#include "tensor/json_parse.h"

#include <gtest/gtest.h>

#include <string>

namespace mayfly {
namespace {

using Json = nlohmann::json;

std::string nested(std::string_view open, std::string_view middle, std::string_view close, std::size_t times) {
  std::string s;
  for (std::size_t i = 0; i < times; ++i) s += open;
  s += middle;
  for (std::size_t i = 0; i < times; ++i) s += close;
  return s;
}

TEST(JsonParse, TakesWhatNlohmannTakes) {
  for (const char* text : {"1", "null", "\"[[[\"", "[]", "{}", R"({"a":[1,-2,3.5,true,{"b":"\u00e9"}],"c":{}})",
                           " [[],[[]],{\"a\":[{}]}] "}) {
    auto got = parse_json_bounded(text);
    ASSERT_TRUE(got.ok()) << text;
    EXPECT_EQ(*got, Json::parse(text));
  }
  for (const char* text : {"", "[", "]", "[1,]", "{\"a\"}", "1 2", "[\"\xff\"]", "nul", "1e999", "[1e999]"}) {
    auto got = parse_json_bounded(text);
    ASSERT_FALSE(got.ok()) << text;
    EXPECT_EQ(got.error().reason, "malformed_json");
  }
}

TEST(JsonParse, CountsDepthNotBrackets) {
  EXPECT_TRUE(parse_json_bounded(nested("[", "1", "]", kMaxJsonDepth)).ok());
  EXPECT_FALSE(parse_json_bounded(nested("[", "1", "]", kMaxJsonDepth + 1)).ok());
  EXPECT_TRUE(parse_json_bounded("[" + nested("[[]],{\"a\":[]},", "0", "", 1000) + "]", 3).ok());
  EXPECT_FALSE(parse_json_bounded("[]", 0).ok());
  EXPECT_TRUE(parse_json_bounded("7", 0).ok());
}

// Each of these ended the process when it was destroyed or printed.
TEST(JsonParse, RefusesHundredThousandLevels) {
  for (const auto& [open, close] : {std::pair{"[", "]"}, std::pair{"{\"a\":", "}"}, std::pair{"[{\"a\":", "}]"}}) {
    for (const std::string& text : {nested(open, "1", close, 100'000), nested(open, "", "", 100'000)}) {
      auto got = parse_json_bounded(text);
      ASSERT_FALSE(got.ok());
      EXPECT_EQ(got.error().message, "the JSON is nested deeper than 32 levels");
    }
  }
}

}  // namespace
}  // namespace mayfly
