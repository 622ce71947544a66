// Requests and answers over HTTP/2, against nghttp2's client: bodies, pieces, trailers, refusals, cancels, drain.
#include <gtest/gtest.h>

#include "gateway/http2/test_peer.h"
#include "gateway/wire/test_gzip.h"

namespace mayfly::http2 {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(Http2Session, AnswersManyRequests) {
  TestPeer p;
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 100; ++i) ids.push_back(p.post("/echo", std::to_string(i)));
  p.exchange();
  for (int i = 0; i < 100; ++i) {
    const Got& got = p.got(ids[static_cast<std::size_t>(i)]);
    EXPECT_EQ(got.text(), "200 t/echo:" + std::to_string(i));
    EXPECT_EQ(got.head.at("x-extra"), "1");
    EXPECT_EQ(got.head.count("connection"), 0u);
    EXPECT_EQ(got.head.at("content-length"), std::to_string(got.body.size()));
    EXPECT_TRUE(got.ended);
    EXPECT_TRUE(got.closed);
  }
  EXPECT_EQ(p.session->streams(), 0u);
  EXPECT_EQ(p.text(p.post("/echo", "")), "200 t/echo:");
}

TEST(Http2Session, BodiesOfManySizes) {
  TestPeer p;
  for (std::size_t n : {1U, 16384U, 65535U, 65536U, 1'000'000U, 5'000'000U, 8U << 20, 10U}) {
    const std::string body(n, static_cast<char>('a' + n % 26));
    EXPECT_EQ(p.text(p.post("/echo", body)), "200 t/echo:" + body) << n;
    EXPECT_EQ(p.text(p.post("/echo", body, {{"content-length", std::to_string(n)}})), "200 t/echo:" + body) << n;
    EXPECT_EQ(p.text(p.post("/stream", body)), "200 t/stream:" + body) << n;
  }
  EXPECT_EQ(p.text(p.post("/echo", std::string((8 << 20) + 1, 'x'))), "413 payload_too_large");
  EXPECT_EQ(p.text(p.post("/stream", std::string((8 << 20) + 1, 'x'))), "413 payload_too_large");
  EXPECT_EQ(p.text(p.request("POST", "/echo", {{"content-length", "90000000"}}, nullptr, true)),
            "413 payload_too_large");
  p.exchange();
  p.sweep(1);
  EXPECT_LE(p.core->buffered_bytes, 64u * 1024);
}

TEST(Http2Session, CompressedBodies) {
  TestPeer p;
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += static_cast<char>('a' + (i % 1000) * (i % 7919) % 23);
  const Fields gzip = {{"content-encoding", "gzip"}};
  for (const char* path : {"/echo", "/stream"}) {
    EXPECT_EQ(p.text(p.post(path, wire::compressed(text), gzip)), fmt::format("200 t{}:{}", path, text));
    EXPECT_EQ(p.text(p.post(path, wire::compressed(text).substr(0, 500), gzip)), "400 malformed_body");
    EXPECT_EQ(p.text(p.post(path, "no gzip at all", gzip)), "400 malformed_body");
    EXPECT_EQ(p.text(p.post(path, wire::compressed(std::string(9 << 20, '0')), gzip)), "413 payload_too_large");
  }
  EXPECT_EQ(p.text(p.post("/echo", "x", {{"content-encoding", "br"}})), "415 unsupported_content_encoding");
}

TEST(Http2Session, HeadsWithoutBody) {
  TestPeer p;
  auto id = p.request("HEAD", "/echo");
  EXPECT_EQ(p.text(id), "200 ");
  EXPECT_EQ(p.got(id).head.at("content-length"), "7");
  id = p.get("/none");
  EXPECT_EQ(p.text(id), "204 ");
  EXPECT_EQ(p.got(id).head.count("content-length"), 0u);
  EXPECT_EQ(p.got(id).data_frames, 0);
}

TEST(Http2Session, PiecesAndTrailers) {
  TestPeer p;
  auto id = p.get("/pieces");
  EXPECT_EQ(p.text(id), "200 piecepiece");
  EXPECT_EQ(p.got(id).trailers.at("grpc-status"), "0");
  EXPECT_EQ(p.got(id).head.count("content-length"), 0u);
  id = p.get("/grpc");
  EXPECT_EQ(p.text(id), "200 t/grpc:");
  EXPECT_EQ(p.got(id).trailers.at("grpc-status"), "0");
  id = p.get("/grpc-error");  // one HEADERS frame is the whole answer
  EXPECT_EQ(p.text(id), "200 ");
  EXPECT_EQ(p.got(id).head.at("grpc-status"), "5");
  EXPECT_EQ(p.got(id).data_frames, 0);
  EXPECT_TRUE(p.got(id).ended);
}

TEST(Http2Session, WriterWaitsForASlowReader) {
  TestPeer p({}, 100'000);
  p.handler.piece.assign(10'000, 'p');
  p.handler.pieces = 100;
  const auto id = p.get("/pieces");
  p.exchange();
  // 65,535 bytes is the connection's window, and 64 KiB and a piece wait.
  EXPECT_EQ(p.got(id).body.size(), 65'535u);
  EXPECT_LE(p.handler.written, 15);
  for (int i = 0; i < 100 && !p.got(id).ended; ++i) {
    nghttp2_session_consume(p.client, id, 60'000);
    p.exchange();
  }
  EXPECT_EQ(p.got(id).body.size(), 1'000'000u);
  EXPECT_EQ(p.got(id).trailers.at("grpc-status"), "0");
}

TEST(Http2Session, WindowOpensOnlyAsTheHandlerReads) {
  TestPeer p;
  const std::string body(4 << 20, 'x');
  const auto id = p.post("/hold", body);
  p.exchange();
  EXPECT_EQ(p.handler.waiting, 1);
  EXPECT_LE(p.core->buffered_bytes, 2u * kStreamWindow);
  EXPECT_GE(p.core->buffered_bytes, static_cast<std::uint64_t>(kStreamWindow));
  EXPECT_EQ(p.updates, 0);
  p.open_gate();
  EXPECT_EQ(p.got(id).text(), "200 t/hold:" + body);
  EXPECT_GT(p.updates, 0);
}

TEST(Http2Session, RefusalAnswersAtOnceAndStopsTheBody) {
  TestPeer p;
  const std::string some(100, 'x');
  auto id = p.request("POST", "/denied", {}, &some, true);
  EXPECT_EQ(p.text(id), "401 no_key");
  EXPECT_EQ(p.got(id).head.at("x-why"), "key");
  EXPECT_TRUE(p.got(id).closed);
  EXPECT_EQ(p.got(id).code, static_cast<std::uint32_t>(NGHTTP2_NO_ERROR));
  EXPECT_EQ(p.text(p.post("/echo", "y")), "200 t/echo:y");
}

TEST(Http2Session, Expect100) {
  TestPeer p;
  for (const char* path : {"/echo", "/stream"}) {
    const auto id = p.request("POST", path, {{"expect", "100-continue"}}, nullptr, true);
    p.exchange();
    EXPECT_EQ(p.got(id).interim, std::vector<std::string>{"100"});
    nghttp2_submit_rst_stream(p.client, 0, id, NGHTTP2_CANCEL);
    p.exchange();
  }
  const auto id = p.request("POST", "/denied", {{"expect", "100-continue"}}, nullptr, true);
  EXPECT_EQ(p.text(id), "401 no_key");
  EXPECT_TRUE(p.got(id).interim.empty());
}

TEST(Http2Session, ResetsReachTheHandler) {
  TestPeer p;
  auto id = p.get("/wait");
  p.exchange();
  EXPECT_EQ(p.handler.waiting, 1);
  nghttp2_submit_rst_stream(p.client, 0, id, NGHTTP2_CANCEL);
  p.exchange();
  EXPECT_EQ(p.handler.waiting, 0);
  EXPECT_EQ(p.handler.cancelled, 1);
  EXPECT_EQ(p.session->streams(), 0u);
  const std::string part = "abc";  // before the body is whole, nobody handles it
  id = p.request("POST", "/echo", {}, &part, true);
  p.exchange();
  nghttp2_submit_rst_stream(p.client, 0, id, NGHTTP2_CANCEL);
  p.exchange();
  EXPECT_EQ(p.handler.aborted, 1);
  p.get("/wait");
  p.request("POST", "/echo", {}, &part, true);
  p.exchange();
  p.session->close();  // the connection is gone
  p.exchange();
  EXPECT_EQ(p.handler.cancelled, 2);
  EXPECT_EQ(p.handler.aborted, 2);
  EXPECT_EQ(p.session->streams(), 0u);
}

TEST(Http2Session, TimeLimitsOfABody) {
  TestPeer p;
  const std::string part = "abc";
  for (const char* path : {"/echo", "/stream"}) {
    const auto late = p.request("POST", std::string(path) + "?due", {}, &part, true);
    const auto stalls = p.request("POST", path, {}, &part, true);
    const auto idles = p.request("POST", "/stream?pause", {}, &part, true);
    p.exchange();
    p.sweep(kSecond);
    EXPECT_EQ(p.text(late), "504 deadline_exceeded");
    EXPECT_EQ(p.text(stalls), "- ");
    p.sweep(30 * kSecond);
    EXPECT_EQ(p.text(stalls), std::string(path) == "/echo" ? "408 body_timeout" : "504 body_timeout");
    EXPECT_EQ(p.text(idles), "- ");
  }
}

TEST(Http2Session, ClientThatTakesNothingLosesItsStream) {
  TestPeer p({}, 1);
  const auto id = p.get("/big");
  p.exchange();
  EXPECT_EQ(p.got(id).body.size(), 1u);
  p.sweep(20 * kSecond);
  EXPECT_FALSE(p.got(id).closed);
  nghttp2_session_consume(p.client, id, 1);  // one byte taken is progress
  p.exchange();
  p.sweep(20 * kSecond);
  EXPECT_FALSE(p.got(id).closed);
  p.sweep(15 * kSecond);
  EXPECT_TRUE(p.got(id).closed);
  EXPECT_EQ(p.got(id).code, static_cast<std::uint32_t>(NGHTTP2_CANCEL));
  EXPECT_EQ(p.session->streams(), 0u);
}

TEST(Http2Session, AllBodiesHaveABudget) {
  wire::Limits limits;
  limits.max_buffered_bytes = 2 << 20;
  TestPeer p(limits);
  const std::string most(900'000, 'x');
  const auto holds = p.request("POST", "/echo", {}, &most, true);
  p.exchange();
  // One caller has half of it, whichever of its connections or streams asks.
  EXPECT_EQ(p.text(p.post("/echo", most)), "429 caller_budget_exceeded");
  EXPECT_EQ(p.text(p.post("/stream", most)), "429 caller_budget_exceeded");
  EXPECT_EQ(p.text(p.post("/echo?caller=1", most)), "200 t/echo:" + most);
  p.request("POST", "/echo?caller=1", {}, &most, true);
  p.exchange();
  EXPECT_EQ(p.text(p.post("/echo?caller=2", most)), "503 body_budget_exceeded");
  EXPECT_EQ(p.text(p.post("/stream?caller=2", most)), "503 body_budget_exceeded");
  nghttp2_submit_rst_stream(p.client, 0, holds, NGHTTP2_CANCEL);
  EXPECT_EQ(p.text(p.post("/echo", most)), "200 t/echo:" + most);
}

// The memory of a large body serves the next one, counts meanwhile, and goes when the connection is idle.
TEST(Http2Session, KeepsTheMemoryOfOneBody) {
  TestPeer p;
  const std::string most(900'000, 'x');
  EXPECT_EQ(p.text(p.post("/echo", most)), "200 t/echo:" + most);
  const std::uint64_t kept = p.core->buffered_bytes;
  EXPECT_GE(kept, most.size());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(p.text(p.post("/echo", most)), "200 t/echo:" + most);
  EXPECT_EQ(p.core->buffered_bytes, kept);
  p.sweep(kSecond);
  EXPECT_LE(p.core->buffered_bytes, 64u * 1024);
}

TEST(Http2Session, DrainLetsStreamsFinish) {
  TestPeer p;
  const auto id = p.get("/wait");
  p.exchange();
  p.session->drain();
  p.exchange();
  ASSERT_EQ(p.goaway_last.size(), 2u);  // the client has answered the ping in between
  EXPECT_EQ(p.goaway_last[0], INT32_MAX);
  EXPECT_EQ(p.goaway_last[1], id);
  EXPECT_EQ(p.goaway, NGHTTP2_NO_ERROR);
  EXPECT_FALSE(p.session->over());
  p.open_gate();
  EXPECT_EQ(p.got(id).text(), "200 t/wait:");
  EXPECT_TRUE(p.session->over());
}

TEST(Http2Session, DrainDoesNotWaitForASilentClient) {
  TestPeer p;
  p.takes = false;
  p.session->drain();
  p.sweep(kSecond);
  p.takes = true;
  p.exchange();
  EXPECT_EQ(p.goaway_last.size(), 2u);
  EXPECT_TRUE(p.session->over());
}

TEST(Http2Session, IdleConnectionIsClosed) {
  TestPeer p;
  p.text(p.get("/echo"));
  p.sweep(74 * kSecond);
  EXPECT_EQ(p.goaway, -1);
  p.sweep(2 * kSecond);
  EXPECT_EQ(p.goaway, NGHTTP2_NO_ERROR);
  EXPECT_TRUE(p.session->over());
}

TEST(Http2Session, BadHeads) {
  wire::Limits limits;
  limits.max_head_bytes = 8192;
  TestPeer p(limits);
  EXPECT_EQ(p.text(p.get("/a\"b")), "400 malformed_request");
  EXPECT_EQ(p.text(p.request("GET", "/", {{"x", std::string(9'000, 'x')}})), "431 head_too_large");
  const auto far = p.request("GET", "/", {{"x", std::string(9'000, 'x')}, {"y", std::string(9'000, 'y')}});
  EXPECT_EQ(p.text(far), "- ");  // twice the limit: not even an answer
  EXPECT_TRUE(p.got(far).closed);
  Fields many;
  for (int i = 0; i < 100; ++i) many.push_back({"x-" + std::to_string(i), "1"});
  EXPECT_EQ(p.text(p.request("GET", "/", many)), "431 head_too_large");
  many.pop_back();
  EXPECT_EQ(p.text(p.request("GET", "/", many)), "200 t/:");
  EXPECT_EQ(p.text(p.request("POST", "/", {{"content-length", "x"}})), "- ");
}

}  // namespace
}  // namespace mayfly::http2
