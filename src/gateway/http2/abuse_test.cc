// What a hostile HTTP/2 client can send: each flood ends its connection with GOAWAY and one log line that names the
// limit; what is merely odd is survived.
#include <gtest/gtest.h>

#include "gateway/http2/test_peer.h"

namespace mayfly::http2 {
namespace {

constexpr std::string_view kIndexedGet("\x82\x86\x84\x41\x01t", 6);  // GET http / with :authority t

std::string repeat(std::size_t n, std::string_view one) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out.append(one);
  return out;
}

void expect_refused(TestPeer& p, const std::string& limit) {
  EXPECT_EQ(p.goaway, NGHTTP2_ENHANCE_YOUR_CALM) << limit;
  ASSERT_EQ(p.log.size(), 1u) << limit;
  EXPECT_TRUE(p.log[0].starts_with("http2_refused " + limit + ":")) << p.log[0];
  EXPECT_TRUE(p.session->over());
}

TEST(Http2Abuse, FloodsOfFrames) {
  const std::string ping = frame(NGHTTP2_PING, 0, 0, "12345678");
  const std::string settings = frame(NGHTTP2_SETTINGS, 0, 0, "");
  const std::string priority = frame(NGHTTP2_PRIORITY, 0, 3, std::string_view("\0\0\0\0\x10", 5));
  const std::string update = frame(NGHTTP2_WINDOW_UPDATE, 0, 0, std::string_view("\0\0\0\x01", 4));
  const std::tuple<std::string, std::string, std::size_t> floods[] = {{"max_pings", ping, 10'001},
                                                                      {"max_settings", settings, 101},
                                                                      {"max_priorities", priority, 1'001},
                                                                      {"max_window_updates", update, 10'001}};
  for (const auto& [limit, one, n] : floods) {
    TestPeer p;
    p.takes = limit != "max_settings";                   // its client would complain of acks that it did not ask for
    for (std::size_t i = 0; i < n - 2; ++i) p.raw(one);  // the preface's own frames are counted too
    EXPECT_EQ(p.goaway, -1) << limit;
    for (int i = 0; i < 2; ++i) p.raw(one);
    p.session->feed({});
    EXPECT_EQ(p.log.size(), 1u) << limit;
    if (!p.takes) continue;
    expect_refused(p, limit);
  }
}

TEST(Http2Abuse, AllowancesRefill) {
  Guard guard;
  std::uint64_t now = 0;
  for (std::uint32_t i = 0; i < 100; ++i) EXPECT_TRUE(guard.allow(Frame::kSettings, now));
  EXPECT_FALSE(guard.allow(Frame::kSettings, now));
  now += 500'000'000;  // 10 a second
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(guard.allow(Frame::kSettings, now));
  EXPECT_FALSE(guard.allow(Frame::kSettings, now));
}

TEST(Http2Abuse, AcksThatNobodyReads) {
  TestPeer p;
  p.takes = false;
  p.raw(repeat(1'100, frame(NGHTTP2_PING, 0, 0, "12345678")));
  p.takes = true;
  p.exchange();
  expect_refused(p, "max_outbound_acks");
}

TEST(Http2Abuse, RapidReset) {
  TestPeer p;
  std::uint32_t id = 1;
  for (; id < 2 * 490; id += 2)
    p.raw(frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, id, kIndexedGet) +
          frame(NGHTTP2_RST_STREAM, 0, id, std::string_view("\0\0\0\x08", 4)));
  EXPECT_EQ(p.goaway, -1);
  EXPECT_EQ(p.session->streams(), 0u);
  EXPECT_EQ(p.handler.handled, 0);  // reset before they began: given up, not handled
  EXPECT_EQ(p.handler.aborted, p.handler.heads);
  for (int i = 0; i < 20; ++i, id += 2)
    p.raw(frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, id, kIndexedGet) +
          frame(NGHTTP2_RST_STREAM, 0, id, std::string_view("\0\0\0\x08", 4)));
  expect_refused(p, "max_resets");
}

// A handler that does not listen for the cancel keeps its place among the concurrent streams.
TEST(Http2Abuse, RunningHandlersCountAsStreams) {
  wire::Limits limits;
  limits.max_streams = 4;
  TestPeer p(limits);
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(p.get("/deaf"));
  p.exchange();
  EXPECT_EQ(p.handler.waiting, 4);
  for (auto id : ids) nghttp2_submit_rst_stream(p.client, 0, id, NGHTTP2_CANCEL);
  p.exchange();
  EXPECT_EQ(p.session->streams(), 4u);
  auto id = p.get("/echo");
  p.exchange();
  EXPECT_EQ(p.got(id).code, static_cast<std::uint32_t>(NGHTTP2_REFUSED_STREAM));
  p.open_gate();
  EXPECT_EQ(p.session->streams(), 0u);
  EXPECT_EQ(p.text(p.get("/echo")), "200 t/echo:");
}

TEST(Http2Abuse, EmptyDataFrames) {
  for (const bool padded : {false, true}) {
    TestPeer p;
    p.raw(frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, std::string_view("\x83\x86\x84\x41\x01t", 6)));
    const std::string one = padded ? frame(NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, std::string_view("\x02\0\0", 3))
                                   : frame(NGHTTP2_DATA, 0, 1, "");
    p.raw(repeat(499, one));
    EXPECT_EQ(p.goaway, -1);
    p.raw(repeat(3, one));
    expect_refused(p, "max_empty_data");
    p.session->close();
    EXPECT_EQ(p.handler.aborted, 1);
  }
}

TEST(Http2Abuse, Continuations) {
  TestPeer p;
  std::string flood = frame(NGHTTP2_HEADERS, 0, 1, kIndexedGet);
  flood += repeat(20, frame(NGHTTP2_CONTINUATION, 0, 1, std::string_view("\0\x01x\x01y", 5)));
  p.raw(flood);
  expect_refused(p, "max_continuations");
}

TEST(Http2Abuse, HeadThatNeverEnds) {
  TestPeer p;
  p.raw(frame(NGHTTP2_HEADERS, 0, 1, kIndexedGet));
  p.sweep(11'000'000'000);
  expect_refused(p, "head_timeout");
}

// A kilobyte of indexes into a table entry of 4,000 bytes: megabytes of fields, of which none is kept.
TEST(Http2Abuse, HpackBomb) {
  TestPeer p;
  std::string block(kIndexedGet);
  block += std::string("\x40\x01x\x7f\xa1\x1e", 6) + std::string(4'000, 'v');  // x: 4,000 bytes, indexed as 62
  block += std::string(10'000, '\xbe');
  p.raw(frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, block));
  EXPECT_EQ(p.handler.heads, 0);
  EXPECT_EQ(p.session->streams(), 0u);
  EXPECT_EQ(p.text(p.get("/echo")), "- ");  // its client does not know that stream 1 is taken
}

TEST(Http2Abuse, ConnectionErrorsHaveTheirCodes) {
  const std::string get = frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, kIndexedGet);
  const std::string get5 = frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 5, kIndexedGet);
  const std::string get3 = frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 3, kIndexedGet);
  const std::pair<std::string, std::int64_t> cases[] = {
      {frame(NGHTTP2_WINDOW_UPDATE, 0, 0, std::string_view("\x7f\xff\xff\xff", 4)), NGHTTP2_FLOW_CONTROL_ERROR},
      {frame(NGHTTP2_WINDOW_UPDATE, 0, 0, std::string_view("\0\0\0\0", 4)), NGHTTP2_PROTOCOL_ERROR},
      {frame(NGHTTP2_DATA, 0, 7, "idle"), NGHTTP2_PROTOCOL_ERROR},
      {get + frame(NGHTTP2_DATA, 0, 1, "closed"), NGHTTP2_STREAM_CLOSED},
      {get5 + get3, NGHTTP2_PROTOCOL_ERROR},
      {frame(NGHTTP2_SETTINGS, 0, 0, "short"), NGHTTP2_FRAME_SIZE_ERROR},
      {frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, "\x80"), NGHTTP2_COMPRESSION_ERROR},
  };
  for (const auto& [bytes, code] : cases) {
    TestPeer p;
    p.raw(bytes);
    EXPECT_EQ(p.goaway, code) << static_cast<int>(bytes[3]);
    EXPECT_TRUE(p.session->over());
    EXPECT_TRUE(p.log.empty());
  }
}

}  // namespace
}  // namespace mayfly::http2
