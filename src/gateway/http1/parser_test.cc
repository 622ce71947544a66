// Heads, chunked bodies and compressed bodies: what is accepted, what is refused, and that it never depends on where
// the bytes were split.
#include <gtest/gtest.h>

#include <string>

#include "gateway/http1/body_decoder.h"
#include "gateway/http1/head_parser.h"
#include "gateway/wire/test_gzip.h"

namespace mayfly::http1 {
namespace {

// "ok METHOD PATH?QUERY fields length chunked keep" or the reason of the error, fed as bytes[0, first) and then the
// rest.
std::string outcome(std::string_view bytes, std::size_t first) {
  HeadParser parser;
  auto whole = parser.scan(bytes.substr(0, first));
  if (whole.ok() && !*whole) whole = parser.scan(bytes);
  if (!whole.ok()) return whole.error().reason;
  if (!*whole) return "incomplete";
  const Status parsed = parser.parse(bytes);
  if (!parsed.ok()) return parsed.error().reason;
  const RequestHead& h = parser.head();
  return fmt::format("ok {} {}?{} {} {} {} {}", h.method_text, h.path, h.query, h.headers.size(),
                     h.content_length ? std::to_string(*h.content_length) : "-", h.chunked ? "chunked" : "plain",
                     h.keep_alive ? "keep" : "close");
}

std::string outcome(const std::string& bytes) {
  const std::string whole = outcome(bytes, bytes.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(outcome(bytes, i), whole) << "split at " << i;
  return whole;
}

struct HeadCase {
  const char* bytes;
  const char* want;
};
// How a case is called in the list of tests: its bytes, without what a terminal would act upon.
void PrintTo(const HeadCase& c, std::ostream* out) {
  for (const char byte : std::string_view(c.bytes).substr(0, 60)) *out << (byte > ' ' && byte < 127 ? byte : '.');
}

class Heads : public testing::TestWithParam<HeadCase> {};
TEST_P(Heads, ParseAsExpected) {
  EXPECT_EQ(outcome(std::string(GetParam().bytes)), GetParam().want) << GetParam().bytes;
}

const HeadCase kValid[] = {
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "ok GET /? 1 - plain keep"},
    {"\r\nGET /x?y=1 HTTP/1.1\r\nhost:a:80\r\n\r\n", "ok GET /x?y=1 1 - plain keep"},
    {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nabc", "ok POST /a? 2 12 plain keep"},
    {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\n", "ok POST /a? 3 2 plain keep"},
    {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", "ok POST /a? 2 - chunked keep"},
    {"GET http://h:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "ok GET /p?q 1 - plain keep"},
    {"GET http://h?q HTTP/1.1\r\nHost: a\r\n\r\n", "ok GET /?q 1 - plain keep"},
    {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "ok OPTIONS *? 1 - plain keep"},
    {"GET / HTTP/1.0\r\n\r\n", "ok GET /? 0 - plain close"},
    {"GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n", "ok GET /? 1 - plain keep"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "ok GET /? 2 - plain close"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: \t\xc3\xa9  \r\nEmpty:\r\n\r\n", "ok GET /? 3 - plain keep"},
    {"GET / HTTP/1.1\r\nHost: a\r\n", "incomplete"},
    {"", "incomplete"},
};
const HeadCase kInvalid[] = {
    {"GET / HTTP/1.1\nHost: a\n\n", "malformed_request"},
    {"GET / HTTP/1.1\r\nHost: a\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\n: a\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", "malformed_request"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed_request"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "malformed_request"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "malformed_request"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", "malformed_request"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", "malformed_request"},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "unsupported_transfer_encoding"},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
     "unsupported_transfer_encoding"},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed_request"},
    {"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"},
    {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET http:///p HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET /\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET / HTTP/1.1x\r\nHost: a\r\n\r\n", "malformed_request"},
    {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "unsupported_http_version"},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "unsupported_http_version"},
    {"\x16\x03\x01", "malformed_request"},
    {"\rGET / HTTP/1.1\r\n\r\n", "malformed_request"},
};
INSTANTIATE_TEST_SUITE_P(Valid, Heads, testing::ValuesIn(kValid));
INSTANTIATE_TEST_SUITE_P(Invalid, Heads, testing::ValuesIn(kInvalid));

TEST(HeadParser, RefusesMoreBytesOrFieldsThanTheLimits) {
  const std::string start = "GET / HTTP/1.1\r\nHost: a\r\n";
  const std::string large = start + "X: " + std::string(HeadParser::kMaxBytes, 'a');
  EXPECT_EQ(outcome(large, large.size()), "head_too_large");
  EXPECT_EQ(outcome(large, 100), "head_too_large");
  std::string many = start;
  for (int i = 0; i < 99; ++i) many += "X: 1\r\n";
  EXPECT_EQ(outcome(many + "\r\n", 5), "ok GET /? 100 - plain keep");
  EXPECT_EQ(outcome(many + "X: 1\r\n\r\n", 5), "head_too_large");
}

TEST(HeadParser, FindsFieldsWhateverTheirCase) {
  HeadParser parser;
  const std::string bytes = "POST / HTTP/1.1\r\nHOST: h\r\nExpect: 100-Continue\r\nContent-Encoding: GZIP\r\n\r\n";
  ASSERT_TRUE(*parser.scan(bytes));
  ASSERT_TRUE(parser.parse(bytes).ok());
  EXPECT_EQ(parser.head().header("host"), "h");
  EXPECT_EQ(parser.head().header("absent"), "");
  EXPECT_TRUE(parser.head().expect_continue);
  EXPECT_EQ(parser.head().encoding, RequestHead::Encoding::kGzip);
  EXPECT_FALSE(iequals("a[", "A{"));
}

// Decodes a body given in pieces of `step` bytes: the data, or "!" and the reason, or "incomplete".
std::string decode(const RequestHead& head, std::string_view raw, std::size_t step, std::uint64_t max) {
  BodyDecoder decoder;
  decoder.begin(head, max);
  std::string out;
  std::size_t at = 0;
  for (std::size_t have = std::min(step, raw.size());; have = std::min(have + step, raw.size())) {
    for (;;) {
      auto piece = decoder.step(raw.substr(at, have - at));
      if (!piece.ok()) return "!" + piece.error().reason;
      at += piece->consumed;
      out.append(piece->data);
      if (piece->done) return out;
      if (piece->data.empty()) break;
    }
    if (have == raw.size()) return "incomplete";
  }
}

std::string decode_chunked(std::string_view raw, std::uint64_t max = 1 << 20) {
  RequestHead head;
  head.chunked = true;
  const std::string whole = decode(head, raw, raw.size(), max);
  for (std::size_t step = 1; step < 8; ++step) EXPECT_EQ(decode(head, raw, step, max), whole) << "steps of " << step;
  return whole;
}

TEST(Chunked, DecodesWhateverTheSplit) {
  EXPECT_EQ(decode_chunked("3\r\nabc\r\n0\r\n\r\n"), "abc");
  EXPECT_EQ(decode_chunked("3;x=\"y\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nT: 1\r\nU: 2\r\n\r\nGET /"), "abc0123456789");
  EXPECT_EQ(decode_chunked("0\r\n\r\n"), "");
  EXPECT_EQ(decode_chunked("3\r\nabc\r\n"), "incomplete");
}

TEST(Chunked, RefusesWhatIsNotChunked) {
  for (const char* bad :
       {"x\r\n", "\r\n", "3\nabc\r\n", "3\r\nabcd\r\n", "3\r\nabc\n0\r\n\r\n", "3 \r\nabc\r\n", "-3\r\n",
        "1111111111111111\r\n", "0\r\n\n", "0\r\nT: \x01\r\n\r\n", "0\r\nT: 1\rx", "3;\n\r\nabc\r\n"}) {
    EXPECT_EQ(decode_chunked(bad), "!malformed_body") << bad;
  }
  EXPECT_EQ(decode_chunked("1;" + std::string(17000, 'a')), "!malformed_body");
  EXPECT_EQ(decode_chunked("0\r\n" + std::string(17000, 'a')), "!malformed_body");
  EXPECT_EQ(decode_chunked("5\r\nabcde\r\n0\r\n\r\n", 4), "!payload_too_large");
}

TEST(Inflate, GzipAndDeflateWhateverTheSplit) {
  std::string data;
  for (int i = 0; i < 20000; ++i) data += std::to_string(i);
  for (bool gzip : {true, false}) {
    const std::string raw = wire::compressed(data, gzip ? wire::kGzipWindow : wire::kZlibWindow);
    RequestHead head;
    head.encoding = gzip ? RequestHead::Encoding::kGzip : RequestHead::Encoding::kDeflate;
    head.content_length = raw.size();
    for (std::size_t step : {std::size_t{1}, std::size_t{777}, raw.size()})
      EXPECT_EQ(decode(head, raw, step, 1 << 20), data);
    EXPECT_EQ(decode(head, raw, raw.size(), data.size() - 1), "!payload_too_large");
    head.content_length = raw.size() - 1;
    EXPECT_EQ(decode(head, raw, 100, 1 << 20), "!malformed_body");
    head.content_length = raw.size() + 3;
    EXPECT_EQ(decode(head, raw + "abc", 100, 1 << 20), "!malformed_body");
  }
  RequestHead two;
  two.encoding = RequestHead::Encoding::kGzip;
  const std::string members = wire::compressed("a") + wire::compressed("b");
  two.content_length = members.size();
  EXPECT_EQ(decode(two, members, 5, 10), "ab");
}

TEST(Inflate, BombStopsAtTheLimit) {
  const std::string raw = wire::compressed(std::string(64 << 20, '\0'));
  ASSERT_LT(raw.size(), 100'000U);
  RequestHead head;
  head.encoding = RequestHead::Encoding::kGzip;
  head.content_length = raw.size();
  EXPECT_EQ(decode(head, raw, raw.size(), 100'000), "!payload_too_large");
}

}  // namespace
}  // namespace mayfly::http1
