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

TEST(JsonParse, BoundsTheNumberOfValues) {
  auto many = [](std::string_view value, std::size_t n) {
    std::string s = "[";
    s.reserve((value.size() + 1) * n + 2);
    for (std::size_t i = 0; i < n; ++i) (s += value) += i + 1 < n ? "," : "]";
    return s;
  };
  for (const auto& [value, nodes] : {std::pair{"{}", 1}, std::pair{"[]", 1}, std::pair{"\"\"", 1},
                                     std::pair{R"({"":0})", 2}, std::pair{R"({"a":"b","c":[1]})", 5}}) {
    for (const std::size_t limit : {20U, 1001U}) {
      const std::size_t fit = (limit - 1) / static_cast<std::size_t>(nodes);
      EXPECT_TRUE(parse_json_bounded(many(value, fit), 32, limit).ok()) << value;
      auto refused = parse_json_bounded(many(value, fit + 1), 32, limit);
      ASSERT_FALSE(refused.ok()) << value;
      EXPECT_EQ(refused.error().reason, "malformed_json");
      EXPECT_NE(refused.error().message.find("too many values; the limits are " + std::to_string(limit)),
                std::string::npos);
    }
  }
  for (const char* value : {"1", "-1", "0.5", "true", "null"}) {
    EXPECT_TRUE(parse_json_bounded(many(value, 50), 32, 1, 50).ok()) << value;
    EXPECT_FALSE(parse_json_bounded(many(value, 51), 32, 1, 50).ok()) << value;
  }
  EXPECT_FALSE(parse_json_bounded(many("{}", kMaxJsonNodes)).ok());  // one more than the array allows
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
