// Reports of compile jobs as the server reads them: the job has run a hostile model and may have written anything.
#include "compile/job.h"

#include <gtest/gtest.h>

namespace mayfly {
namespace {

constexpr std::string_view kSignature =
    R"("inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}],"outputs":[{"name":"y","datatype":"INT64","shape":[-1]}])";

std::string reason(std::string_view text) {
  auto report = read_report(text);
  return report.ok() ? "ok" : report.error().reason;
}

TEST(CompileReport, ReadsAReport) {
  auto report = read_report(fmt::format(R"({{"ok":true,"artefact_bytes":7,{}}})", kSignature));
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->artefact_bytes, 7U);
  EXPECT_EQ(report->signature.inputs.at(0).name, "x");
  EXPECT_EQ(report->json.find("\"ok\""), std::string::npos);
  EXPECT_EQ(reason(R"({"ok":false,"reason":"probe_failed","message":"m"})"), "probe_failed");
}

TEST(CompileReport, ReadsWhatWasStoredOfIt) {
  const std::string text = fmt::format(R"({{"ok":true,"artefact_bytes":7,"rows_independent":true,{}}})", kSignature);
  auto report = read_report(text);
  ASSERT_TRUE(report.ok());
  auto stored = read_stored_report(report->json);
  ASSERT_TRUE(stored.ok()) << stored.error().message;
  EXPECT_EQ(stored->json, report->json);
  EXPECT_EQ(stored->artefact_bytes, 7U);
  EXPECT_TRUE(stored->rows_independent);
  EXPECT_EQ(stored->signature.outputs.at(0).name, "y");
  for (const char* broken : {"", "[]", "{}"}) EXPECT_FALSE(read_stored_report(broken).ok()) << broken;
}

TEST(CompileReport, RefusesWhatIsNone) {
  for (const char* text : {"", "x", "[]", "{}", R"({"ok":1})", R"({"ok":true)"})
    EXPECT_EQ(reason(text), "compile_failed") << text;
  EXPECT_EQ(reason(R"({"ok":false,"reason":"A b"})"), "invalid_model");
  EXPECT_EQ(reason(R"({"ok":true})"), "invalid_signature");
}

CompileReport stored(std::string_view more) {
  auto report = read_stored_report(fmt::format("{{{}{}{}}}", kSignature, more.empty() ? "" : ",", more));
  EXPECT_TRUE(report.ok()) << report.error().message;
  return report.ok() ? *report : CompileReport{};
}

TEST(CompileReport, SaysWhetherThePackedFormPays) {
  const auto plan =
      stored(R"("tier":{"worth":true,"mapped_ms":20,"packed_ms":8.5,"packed_load_ms":60,"packed_bytes":42000000})")
          .tier;
  EXPECT_TRUE(plan.allowed);
  EXPECT_EQ(plan.gain_ns, 11'500'000U);
  EXPECT_EQ(plan.build_ns, 60'000'000U);
  EXPECT_EQ(plan.packed_bytes, 42'000'000U);
}

TEST(CompileReport, AllowsNoPackedFormWhereItIsOfNoUse) {
  for (const char* text : {"", R"("tier":1)", R"("tier":[])", R"("tier":{"worth":false,"mapped_ms":2,"packed_ms":1})",
                           R"("tier":{"worth":true})", R"("tier":{"worth":true,"mapped_ms":"2","packed_ms":1})",
                           R"("tier":{"worth":true,"mapped_ms":1,"packed_ms":2})"})
    EXPECT_FALSE(stored(text).tier.allowed) << text;
  const auto plan = stored(R"("tier":{"worth":true,"mapped_ms":1e300,"packed_ms":-5,"packed_bytes":1e300})").tier;
  EXPECT_EQ(plan.gain_ns, 1'000'000'000'000U);
  EXPECT_EQ(plan.packed_bytes, 10'000'000'000'000U);
}

TEST(CompileReport, SaysWhatAFirstRunReads) {
  EXPECT_EQ(stored(R"("working_set":{"bytes":12,"ranges":[[0,4],[8,8]]})").working_set, (FileRanges{{0, 4}, {8, 8}}));
  for (const char* text : {"", R"("working_set":[])", R"("working_set":{"ranges":[[4,4],[0,4]]})",
                           R"("working_set":{"ranges":[[0,4],[2,4]]})", R"("working_set":{"ranges":[[-1,4]]})",
                           R"("working_set":{"ranges":[[0]]})", R"("working_set":{"ranges":[[0,99999999999999]]})"})
    EXPECT_TRUE(stored(text).working_set.empty()) << text;
}

// Such a report ended the server.
TEST(CompileReport, RefusesDeepReports) {
  const std::string deep = std::string(400'000, '[') + std::string(400'000, ']');
  EXPECT_EQ(reason(deep), "compile_failed");
  EXPECT_EQ(reason(fmt::format(R"({{"ok":true,{},"extra":{}}})", kSignature, deep)), "compile_failed");
  EXPECT_EQ(reason(fmt::format(R"({{"ok":false,"reason":{}}})", deep)), "compile_failed");
}

}  // namespace
}  // namespace mayfly
