#include "fetch/download.h"

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <map>

#include <random>

#include "crypto/hash.h"
#include "fetch/test_server.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kPart = 1000;
using Then = Reply::Then;

std::string noise(std::size_t n) {
  std::mt19937 random(7);
  std::string out(n, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

class DownloadTest : public ::testing::Test {
 protected:
  DownloadTest() : content_(noise(7'654)) {
    Transport::global_init();
    options_.policy.trust_own_network();
    options_.stall_ms = 1000;
    file_.reset(memfd_create("download", MFD_CLOEXEC));
  }
  Result<Downloaded> get(const TestServer& server, const char* path = "/model") {
    Transport transport(options_);
    rq_.url = *parse_http_url(server.url(path));
    rq_.shown = "the model";
    rq_.fd = file_.get();
    if (rq_.max_bytes == 0) rq_.max_bytes = 1 << 20;
    rq_.part_bytes = kPart;
    return download(transport, rq_);
  }
  std::string written() {
    struct stat st{};
    fstat(file_.get(), &st);
    std::string out(static_cast<std::size_t>(st.st_size), '\0');
    EXPECT_EQ(pread(file_.get(), out.data(), out.size(), 0), st.st_size);
    return out;
  }
  void expect_content(const Result<Downloaded>& got) {
    ASSERT_TRUE(got.ok()) << got.error().message;
    EXPECT_EQ(got->bytes, content_.size());
    EXPECT_EQ(got->sha256, sha256_hex(content_));
    EXPECT_EQ(written(), content_);
  }
  static void expect_reason(const Result<Downloaded>& got, const std::string& reason) {
    ASSERT_FALSE(got.ok());
    EXPECT_EQ(got.error().reason, reason) << got.error().message;
  }

  const std::string content_;
  TransportOptions options_;
  DownloadRequest rq_;
  Fd file_;
};

TEST_F(DownloadTest, InPartsThatAreOneObject) {
  TestServer server([this](const std::string& head, int) { return Reply{honest(head, content_)}; });
  rq_.sha256 = sha256_hex(content_);
  auto got = get(server);
  expect_content(got);
  EXPECT_EQ(got->requests, 8U);
  EXPECT_EQ(got->retries, 0U);
  const auto heads = server.heads();
  EXPECT_EQ(head_value(heads[0], "Range"), "bytes=0-999");
  for (std::size_t i = 1; i < heads.size(); ++i) EXPECT_EQ(head_value(heads[i], "If-Match"), "\"1\"");
}

TEST_F(DownloadTest, WithoutRanges) {
  TestServer server([this](const std::string&, int) { return Reply{honest("", content_)}; });
  expect_content(get(server));
  EXPECT_EQ(server.requests(), 1);
}

// Some servers refuse a range that ends behind the object's end instead of cutting it.
TEST_F(DownloadTest, WhereALongRangeIsRefused) {
  TestServer server([this](const std::string& head, int) {
    if (!head_value(head, "Range").empty()) return Reply{"HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n"};
    return Reply{honest(head, content_)};
  });
  expect_content(get(server));
  EXPECT_EQ(server.requests(), 2);
}

TEST_F(DownloadTest, WithoutRangesAndLength) {
  TestServer server(
      [this](const std::string&, int) { return Reply{"HTTP/1.1 200 OK\r\n\r\n" + content_, Then::kClose}; });
  expect_content(get(server));
}

// Each answer breaks after 300 bytes of its part; the next one goes on where it broke.
TEST_F(DownloadTest, GoesOnWhereItBroke) {
  TestServer server([this](const std::string& head, int) {
    const std::string all = honest(head, content_);
    const auto body = all.find("\r\n\r\n") + 4;
    return Reply{all.substr(0, body + 300), all.size() - body > 300 ? Then::kClose : Then::kNext};
  });
  auto got = get(server);
  expect_content(got);
  EXPECT_EQ(got->retries, 7U * 3 + 2);  // 1,000 bytes in pieces of 300, and 654
  for (const std::string& head : server.heads())
    EXPECT_EQ(std::stoul(head_value(head, "Range").substr(6)) % 1000 % 300, 0U);
}

TEST_F(DownloadTest, GivesUpWhereItAlwaysBreaks) {
  TestServer server([this](const std::string& head, int) {
    const std::string all = honest(head, content_);
    return Reply{all.substr(0, all.find("\r\n\r\n") + 4), Then::kClose};
  });
  expect_reason(get(server), "source_truncated");
  std::map<std::string, std::uint32_t> asked;  // by range
  for (const std::string& head : server.heads()) ++asked[head_value(head, "Range")];
  std::uint32_t most = 0;
  for (const auto& [range, times] : asked) most = std::max(most, times);
  EXPECT_EQ(most, 1 + kPartRetries);
}

TEST_F(DownloadTest, BrokenInOnePieceBeginsAnew) {
  TestServer server([this](const std::string&, int n) {
    const std::string all = honest("", content_);
    return n == 0 ? Reply{all.substr(0, 2000), Then::kClose} : Reply{all};
  });
  auto got = get(server);
  expect_content(got);
  EXPECT_EQ(got->retries, 1U);
}

TEST_F(DownloadTest, AStallIsTriedAgain) {
  TestServer server([this](const std::string& head, int n) {
    const std::string all = honest(head, content_);
    return n == 2 ? Reply{all.substr(0, all.size() - 5), Then::kHang} : Reply{all};
  });
  auto got = get(server);
  expect_content(got);
  EXPECT_EQ(got->retries, 1U);
}

TEST_F(DownloadTest, SaysSoWhereItNeverAnswers) {
  options_.deadline_ms = 1500;
  TestServer server([](const std::string&, int) { return Reply{"", Then::kHang}; });
  expect_reason(get(server), "source_stalled");
}

TEST_F(DownloadTest, ABusyServerIsAskedAgain) {
  TestServer server([this](const std::string& head, int n) {
    if (n < 2) return Reply{"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nbusy"};
    return Reply{honest(head, content_)};
  });
  auto got = get(server);
  expect_content(got);
  EXPECT_EQ(got->retries, 2U);
}

TEST_F(DownloadTest, AnObjectThatChangesIsBegunAnew) {
  TestServer server([this](const std::string& head, int n) {
    if (n < 3) return Reply{honest(head, noise(9'999), "\"old\"")};
    if (!head_value(head, "If-Match").empty() && head_value(head, "If-Match") != "\"new\"")
      return Reply{"HTTP/1.1 412 Changed\r\nContent-Length: 0\r\n\r\n"};
    return Reply{honest(head, content_, "\"new\"")};
  });
  expect_content(get(server));
}

TEST_F(DownloadTest, OneThatAlwaysChangesIsRefused) {
  TestServer server(
      [this](const std::string& head, int n) { return Reply{honest(head, content_, fmt::format("\"{}\"", n))}; });
  expect_reason(get(server), "source_changed");
}

// The same lies in the parts' and in the one-piece form.
TEST_F(DownloadTest, LiesAboutLength) {
  const struct {
    const char* what;
    std::string answer;
    const char* reason;
  } cases[] = {
      {"another range", "HTTP/1.1 206 P\r\nContent-Range: bytes 5-10/100\r\nContent-Length: 6\r\n\r\nabcdef",
       "source_length_mismatch"},
      {"a range beyond the end", "HTTP/1.1 206 P\r\nContent-Range: bytes 0-99/50\r\nContent-Length: 1\r\n\r\na",
       "source_length_mismatch"},
      {"more than was asked for", "HTTP/1.1 206 P\r\nContent-Range: bytes 0-5000/9000\r\nContent-Length: 1\r\n\r\na",
       "source_length_mismatch"},
      {"no range", "HTTP/1.1 206 P\r\nContent-Length: 1\r\n\r\na", "source_length_mismatch"},
      {"an unknown total", "HTTP/1.1 206 P\r\nContent-Range: bytes 0-0/*\r\nContent-Length: 1\r\n\r\na",
       "source_length_mismatch"},
      {"more bytes than the range",
       "HTTP/1.1 206 P\r\nContent-Range: bytes 0-2/3\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n",
       "source_length_mismatch"},
      {"fewer bytes than the range", "HTTP/1.1 206 P\r\nContent-Range: bytes 0-99/100\r\nContent-Length: 0\r\n\r\n",
       "source_truncated"},
      {"more than the limit", "HTTP/1.1 206 P\r\nContent-Range: bytes 0-99/99999999\r\nContent-Length: 100\r\n\r\n",
       "payload_too_large"},
      {"more than the limit at once", "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "payload_too_large"},
      {"no number", "HTTP/1.1 206 P\r\nContent-Range: bytes 0-x/9\r\nContent-Length: 1\r\n\r\na",
       "source_length_mismatch"},
      {"nothing", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "source_empty"},
      {"nothing by range", "HTTP/1.1 416 N\r\nContent-Range: bytes */0\r\nContent-Length: 0\r\n\r\n", "source_empty"},
      {"an encoding", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", "source_unsupported"},
      {"not found", "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", "source_not_found"},
      {"forbidden", "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", "source_refused"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    TestServer server([&c](const std::string&, int) { return Reply{c.answer}; });
    expect_reason(get(server), c.reason);
  }
}

TEST_F(DownloadTest, AnEndlessAnswerStopsAtTheLimit) {
  rq_.max_bytes = 5'000;
  TestServer server(
      [this](const std::string&, int) { return Reply{"HTTP/1.1 200 OK\r\n\r\n" + content_, Then::kClose}; });
  expect_reason(get(server), "payload_too_large");
}

TEST_F(DownloadTest, WrongContent) {
  TestServer server([this](const std::string& head, int) { return Reply{honest(head, content_)}; });
  rq_.sha256 = std::string(64, 'a');
  expect_reason(get(server), "digest_mismatch");
  rq_.sha256.clear();
  rq_.bytes = 10;
  expect_reason(get(server), "source_length_mismatch");
}

TEST_F(DownloadTest, AFullDiskIsSaidBeforeTheBytesCome) {
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{4'000, old.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  char name[] = "/tmp/mayfly-download-XXXXXX";
  file_.reset(mkstemp(name));
  unlink(name);
  TestServer server([this](const std::string& head, int) { return Reply{honest(head, content_)}; });
  setrlimit(RLIMIT_FSIZE, &small);
  auto got = get(server);
  setrlimit(RLIMIT_FSIZE, &old);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().reason, "system_call_failed");  // EFBIG here; ENOSPC has the same path and is disk_full
  EXPECT_LE(server.requests(), 2);
}

TEST_F(DownloadTest, CanBeGivenUp) {
  std::atomic<bool> cancelled{true};
  rq_.cancelled = &cancelled;
  TestServer server([](const std::string&, int) { return Reply{"", Then::kHang}; });
  expect_reason(get(server), "cancelled");
}

TEST_F(DownloadTest, RedirectsDropWhatIsSecret) {
  TestServer target([this](const std::string& head, int) { return Reply{honest(head, content_)}; });
  TestServer server([&target](const std::string&, int) {
    return Reply{fmt::format("HTTP/1.1 307 There\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", target.url("/other"))};
  });
  rq_.headers = {"Authorization: Bearer secret"};
  expect_content(get(server));
  EXPECT_EQ(head_value(server.heads()[0], "Authorization"), "Bearer secret");
  for (const std::string& head : target.heads()) {
    EXPECT_TRUE(head.starts_with("GET /other "));
    EXPECT_EQ(head_value(head, "Authorization"), "");
  }
}

TEST_F(DownloadTest, RedirectsGoOnlyWhereTheyMay) {
  TestServer inner([this](const std::string& head, int) { return Reply{honest(head, content_)}; });
  TestServer server([&inner](const std::string&, int) {
    return Reply{fmt::format("HTTP/1.1 302 There\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", inner.url("/"))};
  });
  options_.policy = SourcePolicy();
  ASSERT_TRUE(options_.policy.allow(fmt::format("127.0.0.1:{}", server.port())).ok());
  expect_reason(get(server), "source_not_allowed");
  EXPECT_EQ(inner.requests(), 0);
}

TEST_F(DownloadTest, RedirectsInACircleEnd) {
  TestServer server([](const std::string&, int) {
    return Reply{"HTTP/1.1 302 There\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"};
  });
  expect_reason(get(server), "source_unsupported");
  EXPECT_EQ(server.requests(), 1 + kMaxRedirects);
}

// The name is harmless, its address is not: what counts is the socket. https, so that the scheme alone does not refuse
// it.
TEST_F(DownloadTest, APrivateAddressIsRefusedAfterResolution) {
  TestServer server([](const std::string&, int) { return Reply{""}; });
  options_.policy = SourcePolicy();
  Transport transport(options_);
  rq_.url = *parse_http_url(fmt::format("https://localhost:{}/latest/meta-data", server.port()));
  rq_.fd = file_.get();
  rq_.max_bytes = 100;
  rq_.part_bytes = kPart;
  auto got = download(transport, rq_);
  expect_reason(got, "source_not_allowed");
  EXPECT_EQ(server.requests(), 0);
}

TEST(ContentRangeTest, Forms) {
  auto r = parse_content_range("bytes 5-10/100");
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->first, 5U);
  EXPECT_EQ(r->last, 10U);
  EXPECT_EQ(r->total, 100U);
  EXPECT_EQ(parse_content_range("bytes 0-0/*")->total, ContentRange::kUnknownTotal);
  for (const char* bad : {"", "bytes", "bytes 1-2", "bytes 1-2/", "bytes -2/3", "bytes 1-2/3x", "items 1-2/3",
                          "bytes 1-99999999999999999999999/3"}) {
    EXPECT_FALSE(parse_content_range(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace mayfly
