#include "fetch/bucket.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>

#include "crypto/hash.h"
#include "fetch/test_server.h"

namespace mayfly {
namespace {

const std::string kNone = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
const std::string kOk = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n";

std::string answer(std::string_view body, int status = 200) {
  return fmt::format("HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n{}", status, body.size(), body);
}
std::string there(std::uint64_t bytes) { return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes); }
bool is(const std::string& head, std::string_view method) { return head.starts_with(method); }

class BucketTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { Transport::global_init(); }
  void serve(TestServer::Script script) {
    server_ = std::make_unique<TestServer>(std::move(script));
    FetchOptions o;
    o.s3 = {"key", "secret", "", "us-east-1"};
    o.s3_endpoint = server_->url("");
    o.transport.stall_ms = 1000;
    fetcher_ = *Fetcher::create(std::move(o));
    bucket_ = *Bucket::create(*fetcher_, "s3://models/team/");
  }
  static Fd file_of(std::string_view content) {
    Fd fd(memfd_create("package", MFD_CLOEXEC));
    EXPECT_EQ(::write(fd.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
    return fd;
  }
  Result<bool> put(const std::string& content) {
    const Fd fd = file_of(content);
    return bucket_->put(sha256_hex(content), fd.get(), content.size());
  }
  Result<Downloaded> get(const std::string& digest) {
    got_.reset(memfd_create("got", MFD_CLOEXEC));
    return bucket_->get(digest, got_.get(), 1 << 20);
  }
  std::vector<std::string> methods() {
    std::vector<std::string> out;
    for (const std::string& head : server_->heads()) out.push_back(head.substr(0, head.find(' ')));
    return out;
  }

  const std::string content_ = std::string(200, 'm') + "end";
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<Fetcher> fetcher_;
  std::unique_ptr<Bucket> bucket_;
  Fd got_;
};

TEST_F(BucketTest, APackageIsOneSignedPut) {
  serve([](const std::string& head, int) { return Reply{is(head, "HEAD") ? kNone : kOk}; });
  auto sent = put(content_);
  ASSERT_TRUE(sent.ok()) << sent.error().message;
  EXPECT_TRUE(*sent);
  ASSERT_EQ(methods(), (std::vector<std::string>{"HEAD", "PUT"}));
  const std::string head = server_->heads()[1];
  EXPECT_TRUE(head.starts_with("PUT /models/team/" + sha256_hex(content_) + " HTTP/1.1\r\n")) << head;
  EXPECT_EQ(head_value(head, "x-amz-content-sha256"), sha256_hex(content_));
  EXPECT_TRUE(head_value(head, "Authorization").starts_with("AWS4-HMAC-SHA256 ")) << head;
  EXPECT_EQ(server_->bodies()[1], content_);
}

TEST_F(BucketTest, WhatIsThereIsNotSentAgain) {
  serve([this](const std::string&, int) { return Reply{there(content_.size())}; });
  auto sent = put(content_);
  ASSERT_TRUE(sent.ok()) << sent.error().message;
  EXPECT_FALSE(*sent);
  EXPECT_EQ(server_->requests(), 1);
}

TEST_F(BucketTest, AnObjectOfAnotherLengthIsReplaced) {
  serve([](const std::string& head, int) { return Reply{is(head, "HEAD") ? there(3) : kOk}; });
  auto sent = put(content_);
  ASSERT_TRUE(sent.ok()) << sent.error().message;
  EXPECT_TRUE(*sent);
}

TEST_F(BucketTest, ServerErrorsAndCutsAreTriedAgain) {
  serve([](const std::string& head, int number) {
    if (is(head, "HEAD")) return Reply{kNone};
    if (number == 1) return Reply{answer("", 503)};
    if (number == 2) return Reply{"", Reply::Then::kClose};
    return Reply{kOk};
  });
  ASSERT_TRUE(put(content_).ok());
  EXPECT_EQ(methods(), (std::vector<std::string>{"HEAD", "PUT", "PUT", "PUT"}));
  EXPECT_EQ(server_->bodies()[3], content_);
}

TEST_F(BucketTest, ARefusalSaysWhatToLookAt) {
  serve([](const std::string& head, int) {
    return Reply{is(head, "HEAD") ? kNone : answer("<Error><Code>AccessDenied</Code></Error>", 403)};
  });
  auto sent = put(content_);
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().code, Code::kUnavailable);
  EXPECT_EQ(sent.error().reason, "package_store_unavailable");
  EXPECT_NE(sent.error().message.find("AccessDenied"), std::string::npos);
  EXPECT_NE(sent.error().message.find("credentials"), std::string::npos);
}

TEST_F(BucketTest, NobodyListens) {
  serve([](const std::string&, int) { return Reply{kOk}; });
  server_.reset();
  EXPECT_EQ(put(content_).error().reason, "package_store_unavailable");
  EXPECT_EQ(bucket_->reach().error().reason, "package_store_unavailable");
  EXPECT_EQ(get(sha256_hex(content_)).error().reason, "package_store_unavailable");
}

TEST_F(BucketTest, AnotherServerMayHaveWrittenItMeanwhile) {
  serve([this](const std::string& head, int number) {
    if (is(head, "HEAD")) return Reply{number == 0 ? kNone : there(content_.size())};
    return Reply{answer("", 409)};
  });
  auto sent = put(content_);
  EXPECT_TRUE(sent.ok()) << sent.error().message;
}

TEST_F(BucketTest, ALargePackageGoesInParts) {
  serve([](const std::string& head, int) {
    if (is(head, "HEAD")) return Reply{kNone};
    if (head.find("uploads=") != std::string::npos)
      return Reply{answer("<InitiateMultipartUploadResult><UploadId>a/b+c</UploadId></InitiateMultipartUploadResult>")};
    if (is(head, "POST")) return Reply{answer("<CompleteMultipartUploadResult/>")};
    const auto number = head.substr(head.find("partNumber=") + 11, 1);
    return Reply{fmt::format("HTTP/1.1 200 OK\r\nETag: \"{}\"\r\nContent-Length: 0\r\n\r\n", number)};
  });
  bucket_->set_sizes_for_test(100, 64);
  auto sent = put(content_);
  ASSERT_TRUE(sent.ok()) << sent.error().message;
  const auto heads = server_->heads(), bodies = server_->bodies();
  std::map<std::string, std::string> parts;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    if (!is(heads[i], "PUT")) continue;
    EXPECT_EQ(head_value(heads[i], "x-amz-content-sha256"), sha256_hex(bodies[i]));
    EXPECT_NE(heads[i].find("&uploadId=a%2Fb%2Bc "), std::string::npos) << heads[i];
    parts[heads[i].substr(heads[i].find("partNumber=") + 11, 1)] = bodies[i];
  }
  EXPECT_EQ(parts.size(), 4u);
  EXPECT_EQ(parts["1"] + parts["2"] + parts["3"] + parts["4"], content_);
  const std::string list = bodies.back();
  EXPECT_EQ(list,
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"1\"</ETag></Part>"
            "<Part><PartNumber>2</PartNumber><ETag>\"2\"</ETag></Part>"
            "<Part><PartNumber>3</PartNumber><ETag>\"3\"</ETag></Part>"
            "<Part><PartNumber>4</PartNumber><ETag>\"4\"</ETag></Part></CompleteMultipartUpload>");
  EXPECT_EQ(head_value(heads.back(), "x-amz-content-sha256"), sha256_hex(list));
}

TEST_F(BucketTest, AnUploadInPartsThatFailsIsGivenUp) {
  for (const bool at_the_end : {false, true}) {
    serve([at_the_end](const std::string& head, int) {
      if (is(head, "HEAD")) return Reply{kNone};
      if (is(head, "DELETE")) return Reply{answer("", 204)};
      if (head.find("uploads=") != std::string::npos) return Reply{answer("<r><UploadId>u</UploadId></r>")};
      if (is(head, "POST")) return Reply{answer("<Error><Code>InternalError</Code></Error>")};
      return Reply{at_the_end ? kOk : answer("", 403)};
    });
    bucket_->set_sizes_for_test(100, 64);
    EXPECT_EQ(put(content_).error().reason, "package_store_unavailable");
    const auto all = methods();
    EXPECT_EQ(std::count(all.begin(), all.end(), "DELETE"), 1);
    EXPECT_EQ(std::count(all.begin(), all.end(), "POST"), at_the_end ? 2 : 1);
  }
}

TEST_F(BucketTest, ADamagedPackageIsNotSentInParts) {
  serve([](const std::string& head, int) { return Reply{is(head, "HEAD") ? kNone : kOk}; });
  bucket_->set_sizes_for_test(100, 64);
  const Fd fd = file_of(content_);
  auto sent = bucket_->put(sha256_hex("other"), fd.get(), content_.size());
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().reason, "package_corrupt");
  EXPECT_EQ(methods(), std::vector<std::string>{"HEAD"});
}

TEST_F(BucketTest, WhatComesHasItsDigest) {
  serve([this](const std::string& head, int) { return Reply{honest(head, content_)}; });
  auto got = get(sha256_hex(content_));
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(got->bytes, content_.size());
  auto other = get(sha256_hex("other"));
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().reason, "package_corrupt");
  EXPECT_NE(other.error().message.find("s3://models/team/" + sha256_hex("other")), std::string::npos);
}

TEST_F(BucketTest, WhatIsNotThereIsNotFound) {
  serve([](const std::string&, int) { return Reply{kNone}; });
  EXPECT_EQ(get(sha256_hex(content_)).error().reason, "package_not_found");
  EXPECT_EQ(bucket_->length(sha256_hex(content_)).error().reason, "package_not_found");
  EXPECT_EQ(bucket_->reach().error().reason, "package_store_unavailable");  // there is no such bucket
}

TEST_F(BucketTest, Addresses) {
  serve([](const std::string&, int) { return Reply{kOk}; });
  for (const char* good : {"s3://models", "s3://models/", "s3://models/a/b c", "s3://models/a/"})
    EXPECT_TRUE(Bucket::create(*fetcher_, good).ok()) << good;
  EXPECT_EQ((*Bucket::create(*fetcher_, "s3://models"))->shown("d"), "s3://models/d");
  EXPECT_EQ((*Bucket::create(*fetcher_, "s3://models/a/"))->shown("d"), "s3://models/a/d");
  for (const char* bad : {"", "s3://", "s3:///a", "models", "https://models", "s3://MODELS", "s3://models/../x",
                          "s3://models//x", "/models"})
    EXPECT_FALSE(Bucket::create(*fetcher_, bad).ok()) << bad;
}

}  // namespace
}  // namespace mayfly
