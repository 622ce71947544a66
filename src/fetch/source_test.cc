#include "fetch/source.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "fetch/fetcher.h"
#include "fetch/policy.h"

namespace mayfly {
namespace {

const std::string kHash(64, 'b');

TEST(Source, Forms) {
  auto s = parse_source("models/iris.onnx");
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(s->kind, SourceKind::kFile);
  EXPECT_EQ(s->path, "models/iris.onnx");

  s = parse_source("s3://models/a/b c#1.onnx#sha256=" + kHash);
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(s->kind, SourceKind::kS3);
  EXPECT_EQ(s->bucket, "models");
  EXPECT_EQ(s->key, "a/b c#1.onnx");
  EXPECT_EQ(s->sha256, kHash);

  s = parse_source("https://Example.com/m.onnx?sig=secret&sha256=" + kHash + "&x=1#frag");
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(s->kind, SourceKind::kHttp);
  EXPECT_EQ(s->url, "https://Example.com/m.onnx?sig=secret&x=1");
  EXPECT_EQ(s->sha256, kHash);
  EXPECT_EQ(s->shown, "https://Example.com/m.onnx");  // a signature is for nobody's eyes

  s = parse_source("oci://127.0.0.1:5000/org/iris:v1#iris.onnx");
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(s->kind, SourceKind::kOci);
  EXPECT_EQ(s->registry, "127.0.0.1:5000");
  EXPECT_EQ(s->repository, "org/iris");
  EXPECT_EQ(s->reference, "v1");
  EXPECT_EQ(s->file, "iris.onnx");
  EXPECT_EQ(parse_source("oci://r.example/iris")->reference, "latest");
  EXPECT_EQ(parse_source("oci://r.example/iris@sha256:" + kHash)->reference, "sha256:" + kHash);
}

TEST(Source, Refused) {
  for (const std::string& bad :
       {std::string(), std::string("s3://bucket"), std::string("s3:///key"), std::string("s3://b/a/../../c"),
        std::string("s3://UPPER/key"), std::string("https://"), std::string("https://user:pw@host/x"),
        std::string("https://h/x#sha256=12"), std::string("oci://registry"), std::string("oci://r/x@sha256:12"),
        std::string("oci://r/a b:1"), std::string("https://h/\nx"),
        "https://h/?sha256=" + std::string(64, 'a') + "#sha256=" + kHash, std::string(kMaxSourceBytes + 1, 'a')}) {
    auto s = parse_source(bad);
    ASSERT_FALSE(s.ok()) << bad;
    EXPECT_EQ(s.error().reason, "invalid_source");
    EXPECT_EQ(s.error().message.find("pw"), std::string::npos);
  }
}

TEST(Source, Redirects) {
  const HttpUrl base = *parse_http_url("https://a.example/x/y");
  EXPECT_EQ(resolve_redirect(base, "z")->url, "https://a.example/x/z");
  EXPECT_EQ(resolve_redirect(base, "//b.example/q")->host, "b.example");
  EXPECT_FALSE(resolve_redirect(base, "file:///etc/passwd").ok());
  EXPECT_FALSE(resolve_redirect(base, "gopher://a.example/").ok());
}

bool is_public(const char* text) {
  sockaddr_in v4{};
  if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    return is_public_address(reinterpret_cast<const sockaddr&>(v4));
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  EXPECT_EQ(inet_pton(AF_INET6, text, &v6.sin6_addr), 1) << text;
  return is_public_address(reinterpret_cast<const sockaddr&>(v6));
}

TEST(Policy, PublicAddresses) {
  for (const char* a :
       {"1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.255.255", "2606:4700::1111", "::ffff:8.8.8.8"})
    EXPECT_TRUE(is_public(a)) << a;
  for (const char* a : {"0.0.0.0",
                        "10.1.2.3",
                        "100.64.0.1",
                        "127.0.0.1",
                        "169.254.169.254",
                        "172.16.0.1",
                        "172.31.255.255",
                        "192.168.1.1",
                        "198.19.0.1",
                        "224.0.0.1",
                        "255.255.255.255",
                        "::",
                        "::1",
                        "fe80::1",
                        "fc00::1",
                        "fd00:ec2::254",
                        "ff02::1",
                        "::ffff:127.0.0.1",
                        "::ffff:169.254.169.254",
                        "64:ff9b::7f00:1",
                        "2002:7f00:1::",
                        "2001:db8::1",
                        "2001::1"})
    EXPECT_FALSE(is_public(a)) << a;
}

TEST(Policy, WhatIsAllowed) {
  sockaddr_in loopback{};
  loopback.sin_family = AF_INET;
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const auto& here = reinterpret_cast<const sockaddr&>(loopback);
  SourcePolicy p;
  EXPECT_FALSE(p.allows_address("localhost", 80, here));
  EXPECT_FALSE(p.check_url("http", "example.com", 80).ok());
  EXPECT_TRUE(p.check_url("https", "example.com", 443).ok());
  EXPECT_FALSE(p.check_bucket("models", "a").ok());
  for (const char* rule : {"store.local:9000", "[::1]:7000", "plain.example", "s3://models/team-a"})
    ASSERT_TRUE(p.allow(rule).ok()) << rule;
  EXPECT_TRUE(p.allows_address("store.local", 9000, here));
  EXPECT_FALSE(p.allows_address("store.local", 9001, here));
  EXPECT_FALSE(p.allows_address("other.local", 9000, here));
  EXPECT_TRUE(p.allows_address("::1", 7000, here));
  EXPECT_TRUE(p.check_url("http", "plain.example", 8080).ok());
  EXPECT_TRUE(p.check_bucket("models", "team-a/x").ok());
  EXPECT_FALSE(p.check_bucket("models", "team-ab/x").ok());
  EXPECT_FALSE(p.check_bucket("other", "team-a/x").ok());
  for (const char* bad : {"", "host:0", "host:x", "http://host", "s3://", "[::1"})
    EXPECT_FALSE(p.allow(bad).ok()) << bad;
}

// A name that looks like loopback but leads elsewhere is no excuse for plain HTTP.
TEST(Policy, OwnNetwork) {
  sockaddr_in other{};
  other.sin_family = AF_INET;
  inet_pton(AF_INET, "10.0.0.1", &other.sin_addr);
  const auto& lan = reinterpret_cast<const sockaddr&>(other);
  SourcePolicy p;
  p.trust_own_network();
  EXPECT_TRUE(p.check_url("http", "127.0.0.1", 80).ok());
  EXPECT_FALSE(p.check_url("http", "10.0.0.1", 80).ok());
  EXPECT_TRUE(p.allows_address("files.lan", 443, lan));
  EXPECT_FALSE(p.allows_address("127.evil.example", 80, lan));
  EXPECT_TRUE(p.check_bucket("any", "key").ok());
}

std::string layer(const char* type, const char* title, char digest) {
  return fmt::format(
      R"({{"mediaType":"{}","digest":"sha256:{}","size":5,"annotations":{{"org.opencontainers.image.title":"{}"}}}})",
      type, std::string(64, digest), title);
}

TEST(Oci, ChoosesTheModel) {
  const Source any = *parse_source("oci://r/x:1");
  const Source named = *parse_source("oci://r/x:1#b.onnx");
  const char* raw = "application/vnd.cncf.model.weight.v1.raw";
  const auto manifest = [](const std::string& layers) { return "{\"layers\":[" + layers + "]}"; };
  auto one = choose_layer(manifest(layer(raw, "weights", 'a')), any);
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one->digest, "sha256:" + std::string(64, 'a'));
  EXPECT_EQ(one->bytes, 5U);
  EXPECT_EQ(choose_layer(manifest(layer(raw, "README.md", 'a') + "," + layer(raw, "m.onnx", 'b')), any)->title,
            "m.onnx");
  const std::string two = manifest(layer(raw, "a.onnx", 'a') + "," + layer(raw, "b.onnx", 'b'));
  EXPECT_EQ(choose_layer(two, any).error().reason, "source_ambiguous");
  EXPECT_EQ(choose_layer(two, named)->title, "b.onnx");
  EXPECT_EQ(choose_layer(manifest(layer(raw, "a.onnx", 'a')), named).error().reason, "source_not_found");
  EXPECT_EQ(choose_layer(manifest(layer("application/vnd.oci.image.layer.v1.tar+gzip", "a", 'a')), any).error().reason,
            "source_unsupported");
  for (const char* bad :
       {"", "[]", "{}", R"({"layers":[]})", R"({"layers":[7]})", R"({"layers":[{"digest":"md5:1"}]})"})
    EXPECT_FALSE(choose_layer(bad, any).ok()) << bad;
}

TEST(Oci, Token) {
  EXPECT_EQ(*token_url(R"(Bearer realm="https://auth.example/t",service="r.example")", "org/x"),
            "https://auth.example/t?scope=repository%3Aorg/x%3Apull&service=r.example");
  EXPECT_EQ(token_url("Basic realm=\"x\"", "x").error().reason, "source_refused");
}

}  // namespace
}  // namespace mayfly
