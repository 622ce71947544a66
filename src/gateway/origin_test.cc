#include "gateway/origin.h"

#include <gtest/gtest.h>

namespace mayfly {
namespace {

TEST(Origin, LoopbackAuthorities) {
  for (const char* good : {"localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "127.255.3.4:65535", "[::1]",
                           "[::1]:8080", "localhost:"}) {
    EXPECT_TRUE(is_loopback_authority(good)) << good;
  }
  for (const char* bad : {"",
                          ":80",
                          "evil.example",
                          "localhost.evil.example",
                          "127.0.0.1.evil.example",
                          "127.evil.example",
                          "128.0.0.1",
                          "10.0.0.1:80",
                          "0.0.0.0",
                          "127.1",
                          "2130706433",
                          "[::2]",
                          "[::1",
                          "[::1]x",
                          "[::1].evil.example",
                          "::1",
                          "localhost@evil.example",
                          "localhost:80@evil.example",
                          "127.0.0.1:80:80",
                          "localhost/",
                          "xlocalhost"}) {
    EXPECT_FALSE(is_loopback_authority(bad)) << bad;
  }
}

std::string outcome(std::vector<Header> headers) {
  RequestHead head;
  head.headers = std::move(headers);
  const Status st = check_origin(head);
  if (!st.ok()) EXPECT_EQ(http_status(st.error()), 403);
  return st.ok() ? "ok" : st.error().reason;
}

TEST(Origin, Requests) {
  const Header host{"Host", "127.0.0.1:8080"};
  const std::vector<std::vector<Header>> good = {{},
                                                 {host},
                                                 {{"host", ""}},
                                                 {host, {"Origin", "http://localhost:3000"}},
                                                 {host, {"Origin", "http://[::1]"}},
                                                 {host, {"Sec-Fetch-Site", "same-origin"}},
                                                 {host, {"Sec-Fetch-Site", "none"}}};
  for (const auto& headers : good) EXPECT_EQ(outcome(headers), "ok");
  const std::vector<std::vector<Header>> bad = {{{"hOST", "evil.example"}},
                                                {host, {"Origin", "https://evil.example"}},
                                                {host, {"Origin", "null"}},
                                                {host, {"Origin", ""}},
                                                {host, {"Origin", "http://localhost.evil.example"}},
                                                {host, {"Origin", "http://localhost"}, {"Origin", "http://evil"}},
                                                {host, {"Sec-Fetch-Site", "cross-site"}}};
  for (const auto& headers : bad) EXPECT_EQ(outcome(headers), "foreign_origin");
}

}  // namespace
}  // namespace mayfly
