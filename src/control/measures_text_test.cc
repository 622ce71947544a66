#include "control/measures_text.h"

#include <gtest/gtest.h>

namespace mayfly {
namespace {

TEST(MeasuresText, WhatWasMeasuredComesBack) {
  Measures m;
  for (std::uint64_t ns : {9'000'000U, 8'000'000U, 8'400'000U}) m.start.observe(ns);
  m.run.observe(120'000);
  m.private_bytes = 400'000;
  const Measures back = measures_from_json(measures_to_json(m));
  EXPECT_EQ(back.start.mean_ns(), m.start.mean_ns());
  EXPECT_EQ(back.start.deviation_ns(), m.start.deviation_ns());
  EXPECT_EQ(back.run.mean_ns(), 120'000U);
  EXPECT_EQ(back.private_bytes, 400'000U);
  EXPECT_FALSE(back.resume.measured());
  EXPECT_EQ(back.artefact_bytes, 0U);
}

TEST(MeasuresText, OtherTextSaysNothing) {
  for (const char* text : {"", "{", "[]", "7", R"({"start":7})", R"({"start":[1]})", R"({"start":[-1,2]})",
                           R"({"start":["a","b"],"private_bytes":-3})"}) {
    const Measures m = measures_from_json(text);
    EXPECT_FALSE(m.start.measured()) << text;
    EXPECT_EQ(m.private_bytes, 0U) << text;
  }
}

// It has settled: one other run does not count as if it were the second.
TEST(MeasuresText, AKnownTimeIsNotTakenForAFirstRun) {
  auto t = policy::RunTime::known(1'000'000, 10'000);
  t.observe(500'000);
  EXPECT_GT(t.mean_ns(), 900'000U);
}

}  // namespace
}  // namespace mayfly
