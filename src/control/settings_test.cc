#include "control/settings.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace mayfly {
namespace {

using ::testing::HasSubstr;

EndpointSettings parsed(std::string_view json) {
  auto s = settings_from_json(json);
  EXPECT_TRUE(s.ok()) << json << ": " << s.error().message;
  return s.ok() ? *s : EndpointSettings{};
}
Error refused(std::string_view json) {
  auto s = settings_from_json(json);
  EXPECT_FALSE(s.ok()) << json;
  return s.ok() ? Error{} : s.error();
}

TEST(SettingsTest, EmptySpecIsTheDefaults) {
  EXPECT_EQ(settings_to_json(parsed("{}")), settings_to_json(EndpointSettings{}));
  EXPECT_FALSE(parsed("{}").image.has_value());
}

TEST(SettingsTest, ReadsEverySetting) {
  const EndpointSettings s = parsed(R"({
    "memory": "1.5Gi", "cpu": "500m", "min": 1, "max": 20, "concurrency": 4, "idle": "5m", "timeout": "2s", "queue": 7,
    "max_request": "1Mi", "max_response": 4096,
    "input": {"image": {"resize": [320, 240], "crop": "none", "mean": 127, "scale": [0.1, 0.2, 0.3], "layout": "nhwc"}},
    "output": {"classes": {"labels": ["cat", "dög"], "top": 3, "output": "probabilities"}}})");
  EXPECT_EQ(s.memory_bytes, 3ULL << 29);
  EXPECT_EQ(s.cpu_milli, 500u);
  EXPECT_EQ(s.min_instances, 1u);
  EXPECT_EQ(s.max_instances, 20u);
  EXPECT_EQ(s.concurrency, 4u);
  EXPECT_EQ(s.idle_ms, 300'000u);
  EXPECT_EQ(s.timeout_ms, 2000u);
  EXPECT_EQ(s.queue, 7u);
  EXPECT_EQ(s.max_request_bytes, 1u << 20);
  EXPECT_EQ(s.max_response_bytes, 4096u);
  ASSERT_TRUE(s.image.has_value());
  EXPECT_EQ(s.image->width, 320u);
  EXPECT_EQ(s.image->height, 240u);
  EXPECT_EQ(s.image->crop_permille, 0U);
  EXPECT_THAT(s.image->mean, ::testing::ElementsAre(127.f, 127.f, 127.f));
  EXPECT_THAT(s.image->scale, ::testing::ElementsAre(0.1f, 0.2f, 0.3f));
  EXPECT_TRUE(s.image->nhwc);
  ASSERT_TRUE(s.classes.has_value());
  EXPECT_EQ(s.classes->top, 3u);
  EXPECT_EQ(s.classes->output, "probabilities");
  EXPECT_THAT(s.classes->labels, ::testing::ElementsAre("cat", "dög"));
}

TEST(SettingsTest, ThreadsAreAtMostTheProcessors) {
  EXPECT_EQ(parsed(R"({"cpu":"2500m","threads":3})").threads, 3U);
  EXPECT_EQ(parsed("{}").threads, 0U);
  const Error e = refused(R"({"cpu":2,"threads":3})");
  EXPECT_EQ(e.reason, "invalid_setting");
  EXPECT_THAT(e.message, HasSubstr("setting threads: 3 is above cpu rounded up, which is 2"));
  EXPECT_EQ(refused(R"({"cpu":64,"threads":65})").reason, "invalid_setting");
}

// YAML's `off` may arrive as a word or as false.
TEST(SettingsTest, WakeOnIsRequestOrConnection) {
  EXPECT_FALSE(parsed("{}").wake_on_connection);
  EXPECT_FALSE(parsed(R"({"wake_on":"request"})").wake_on_connection);
  EXPECT_TRUE(parsed(R"({"wake_on":"connection"})").wake_on_connection);
  EXPECT_THAT(settings_to_json(parsed(R"({"wake_on":"connection"})")), HasSubstr(R"("wake_on":"connection")"));
  EXPECT_EQ(refused(R"({"wake_on":"handshake"})").reason, "invalid_setting");
}

TEST(SettingsTest, TierUpIsAutoOrOff) {
  EXPECT_TRUE(parsed("{}").tier_up);
  EXPECT_TRUE(parsed(R"({"tier_up":"auto"})").tier_up);
  EXPECT_FALSE(parsed(R"({"tier_up":"off"})").tier_up);
  EXPECT_FALSE(parsed(R"({"tier_up":false})").tier_up);
  EXPECT_THAT(settings_to_json(parsed(R"({"tier_up":"off"})")), HasSubstr(R"("tier_up":"off")"));
  EXPECT_EQ(refused(R"({"tier_up":"on"})").reason, "invalid_setting");
}

// Such a text ended the process where it was destroyed or printed, stored ones included.
TEST(SettingsTest, RefusesDeepText) {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  for (const std::string& spec : {deep, "{\"sample\": {\"inputs\": " + deep + "}}", "{\"labels\": " + deep + "}"}) {
    const Error e = refused(spec);
    EXPECT_EQ(e.reason, "invalid_setting");
    EXPECT_THAT(e.message, HasSubstr("nested deeper than 32 levels"));
  }
  EndpointSettings s;
  s.sample_json = "{\"a\": " + deep + "}";
  EXPECT_FALSE(nlohmann::json::parse(settings_to_json(s)).contains("sample"));
}

TEST(SettingsTest, CanonicalTextReadsBackAsItself) {
  for (const char* json : {"{}", R"({"idle": 0, "cpu": 0.25, "memory": 100000001})", R"({"input": {"image": {}}})",
                           R"({"input": {"image": {"mean": [123.675, 116.28, 103.53], "scale": 0.0078125}},
                               "output": {"classes": {"labels": ["a"]}}})"}) {
    const std::string once = settings_to_json(parsed(json));
    EXPECT_EQ(settings_to_json(parsed(once)), once);
  }
  EXPECT_THAT(settings_to_json(parsed(R"({"input": {"image": {"scale": 0.1}}})")), HasSubstr(R"("scale":0.1)"));
  EXPECT_EQ(nlohmann::json::parse(settings_to_json(EndpointSettings{}))["memory"], "512Mi");
}

TEST(SettingsTest, NumbersAndStringsMeanTheSame) {
  for (const char* json : {R"({"cpu": 0.5})", R"({"cpu": "0.5"})", R"({"cpu": "500m"})"}) {
    EXPECT_EQ(parsed(json).cpu_milli, 500u) << json;
  }
  EXPECT_EQ(parsed(R"({"cpu": 1})").cpu_milli, 1000u);
  EXPECT_EQ(parsed(R"({"min": "3"})").min_instances, 3u);
  EXPECT_EQ(parsed(R"({"min": 3.0})").min_instances, 3u);
  EXPECT_EQ(parsed(R"({"memory": 536870912})").memory_bytes, 512ULL << 20);
  EXPECT_EQ(parsed(R"({"idle": 0})").idle_ms, 0u);
  EXPECT_EQ(parsed(R"({"input": {"image": {"resize": 96}}})").image->height, 96u);
}

TEST(SettingsTest, BoundsAreInclusiveAndNamed) {
  EXPECT_EQ(parsed(R"({"memory": "64Mi"})").memory_bytes, 64ULL << 20);
  EXPECT_EQ(parsed(R"({"memory": "64Gi"})").memory_bytes, 64ULL << 30);
  EXPECT_EQ(parsed(R"({"max": 1000, "min": 1000})").min_instances, 1000u);
  const Error e = refused(R"({"memory": "63Mi"})");
  EXPECT_EQ(e.code, Code::kInvalidArgument);
  EXPECT_EQ(e.reason, "invalid_setting");
  EXPECT_THAT(e.message, HasSubstr("memory"));
  EXPECT_THAT(e.message, HasSubstr("\"63Mi\""));
  EXPECT_THAT(e.message, HasSubstr("64Mi to 64Gi"));
}

TEST(SettingsTest, RefusesWhatIsNotPossible) {
  for (const char* json : {R"({"memory": "65Gi"})",
                           R"({"memory": "512MB"})",
                           R"({"memory": null})",
                           R"({"memory": [1]})",
                           R"({"memory": ""})",
                           R"({"cpu": "99m"})",
                           R"({"cpu": 65})",
                           R"({"cpu": -1})",
                           R"({"cpu": 1e-5})",
                           R"({"min": -1})",
                           R"({"min": 1.5})",
                           R"({"min": true})",
                           R"({"max": 0})",
                           R"({"max": 99999999999999999999999})",
                           R"({"concurrency": 65})",
                           R"({"idle": 10})",
                           R"({"idle": "25h"})",
                           R"({"idle": "10 s"})",
                           R"({"timeout": "0s"})",
                           R"({"queue": 100001})",
                           R"({"max_request": 1023})",
                           R"({"input": 5})",
                           R"({"input": {"image": []}})",
                           R"({"input": {"image": {"resize": [1, 2, 3]}}})",
                           R"({"input": {"image": {"resize": [0, 4]}}})",
                           R"({"input": {"image": {"resize": 4097}}})",
                           R"({"input": {"image": {"crop": "left"}}})",
                           R"({"input": {"image": {"crop": 1.5}}})",
                           R"({"input": {"image": {"mean": [1, 2]}}})",
                           R"({"input": {"image": {"mean": "x"}}})",
                           R"({"input": {"image": {"scale": 1e300}}})",
                           R"({"input": {"image": {"layout": "NCHW"}}})",
                           R"({"output": {"classes": {"top": 0}}})",
                           R"({"output": {"classes": {"top": 101}}})",
                           R"({"output": {"classes": {"output": 3}}})",
                           R"({"output": {"classes": {"labels": "cat"}}})",
                           R"({"output": {"classes": {"labels": [1]}}})",
                           R"({"min": 11})",
                           "",
                           "[]",
                           "null",
                           "{",
                           "{\"min\": 1}x"}) {
    EXPECT_EQ(refused(json).reason, "invalid_setting") << json;
  }
}

TEST(SettingsTest, LabelsHaveLimits) {
  const auto spec = [](std::size_t count, std::size_t bytes) {
    nlohmann::json j;
    j["output"]["classes"]["labels"] = std::vector<std::string>(count, std::string(bytes, 'x'));
    return j.dump();
  };
  EXPECT_EQ(parsed(spec(100'000, 1)).classes->labels.size(), 100'000u);
  EXPECT_EQ(parsed(spec(1, 512)).classes->labels[0].size(), 512u);
  EXPECT_THAT(refused(spec(100'001, 1)).message, HasSubstr("100000"));
  const Error e = refused(spec(2, 513));
  EXPECT_THAT(e.message, HasSubstr("output.classes.labels[0]"));
  EXPECT_LT(e.message.size(), 400u);
}

TEST(SettingsTest, UnknownNamesGetASuggestion) {
  const auto message = [](std::string_view json) {
    const Error e = refused(json);
    EXPECT_EQ(e.reason, "unknown_setting") << json;
    return e.message;
  };
  EXPECT_THAT(message(R"({"memroy": "1Gi"})"), HasSubstr("did you mean memory?"));
  EXPECT_THAT(message(R"({"Timeout": "1s"})"), HasSubstr("did you mean timeout?"));
  EXPECT_THAT(message(R"({"input": {"picture": {}}})"), HasSubstr("known are image"));
  EXPECT_THAT(message(R"({"input": {"image": {"sclae": 1}}})"), HasSubstr("did you mean scale?"));
  EXPECT_THAT(message(R"({"labels": ["a"]})"), HasSubstr("did you mean output.classes.labels?"));
  EXPECT_THAT(message(R"({"replicas": 3})"), HasSubstr("known are memory, cpu, threads,"));
  // A dotted key must not reach a row whose group was not opened.
  EXPECT_THAT(message(R"({"input.image.resize": 3})"), HasSubstr("there is no setting"));
  EXPECT_THAT(message(R"({"": 3})"), HasSubstr("there is no setting"));
  EXPECT_LT(message("{\"" + std::string(100'000, 'a') + "\": 1}").size(), 400u);
}

TEST(SettingsTest, ReferenceListsEverySettingWithItsDefault) {
  const std::string page = settings_reference_markdown();
  EXPECT_THAT(page, HasSubstr("| `memory` | bytes with Ki, Mi or Gi | 512Mi | 64Mi to 64Gi |"));
  EXPECT_THAT(page, HasSubstr("| `cpu` | CPUs, or thousandths with m | 1 | 100m to 64 |"));
  EXPECT_THAT(page, HasSubstr("| `idle` | a time in ms, s, m or h | 10s | 0ms to 24h |"));
  EXPECT_THAT(page, HasSubstr("| `input.image.resize` | a side, or [width, height] | [224,224] | 1 to 4096 |"));
  EXPECT_THAT(page, HasSubstr("| `output.classes.output` | a name | none |"));
}

TEST(UnitsTest, Bytes) {
  EXPECT_EQ(*parse_bytes("0"), 0u);
  EXPECT_EQ(*parse_bytes("17"), 17u);
  EXPECT_EQ(*parse_bytes("1Ki"), 1024u);
  EXPECT_EQ(*parse_bytes("0.5Mi"), 524'288u);
  EXPECT_EQ(*parse_bytes("0.3Ki"), 308u);  // rounded up
  for (const char* bad : {"", "Mi", "-1", "+1", "1.", ".5Mi", "1 Mi", "1mi", "1M", "1e3", "0x10",
                          "999999999999999999Gi", "9999999999999999999", "1.0000000001Ki"}) {
    EXPECT_FALSE(parse_bytes(bad).ok()) << bad;
  }
}

TEST(UnitsTest, Durations) {
  EXPECT_EQ(*parse_duration_ms("0"), 0u);
  EXPECT_EQ(*parse_duration_ms("15ms"), 15u);
  EXPECT_EQ(*parse_duration_ms("1.5s"), 1500u);
  EXPECT_EQ(*parse_duration_ms("2m"), 120'000u);
  EXPECT_EQ(*parse_duration_ms("24h"), 86'400'000u);
  for (const char* bad : {"", "10", "10S", "1d", "s", "-1s", "1m30s"}) EXPECT_FALSE(parse_duration_ms(bad).ok()) << bad;
}

TEST(EndpointNameTest, Syntax) {
  for (const char* good : {"a", "0", "iris", "my-model_v1.2", "a--b"})
    EXPECT_TRUE(check_endpoint_name(good).ok()) << good;
  EXPECT_TRUE(check_endpoint_name(std::string(63, 'a')).ok());
  for (const std::string& bad :
       {std::string(), std::string(64, 'a'), std::string("-a"), std::string("a-"), std::string("A"), std::string("a/b"),
        std::string(".."), std::string("a b"), std::string("é"), std::string("a\0b", 3)}) {
    EXPECT_EQ(check_endpoint_name(bad).error().reason, "invalid_name") << bad;
  }
}

}  // namespace
}  // namespace mayfly
