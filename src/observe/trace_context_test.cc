#include "observe/trace_context.h"

#include <gtest/gtest.h>

namespace mayfly {
namespace {

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";

TEST(TraceContext, ContinuesATrace) {
  TraceContext t;
  ASSERT_TRUE(read_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", 0x1234, t));
  EXPECT_STREQ(t.trace_id, kTrace);
  EXPECT_STREQ(t.parent_id, "00f067aa0ba902b7");
  EXPECT_EQ(t.flags, 3);  // as OpenTelemetry sends it
  std::string out;
  append_traceparent(out, t);
  EXPECT_EQ(out, "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000001234-03");
}

TEST(TraceContext, LaterVersionsMayBeLonger) {
  TraceContext t;
  EXPECT_TRUE(read_traceparent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", 1, t));
  EXPECT_TRUE(read_traceparent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 1, t));
  EXPECT_FALSE(read_traceparent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more", 1, t));
}

TEST(TraceContext, WhatIsNoneIsIgnored) {
  for (const char* text : {"", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
                           "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                           "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                           "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
                           "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                           "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}) {
    TraceContext t;
    EXPECT_FALSE(read_traceparent(text, 1, t)) << text;
    EXPECT_FALSE(t) << text;
  }
}

}  // namespace
}  // namespace mayfly
