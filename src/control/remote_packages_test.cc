// Packages that a bucket keeps: what is acknowledged, what is fetched, and what a store that fails leaves behind.
#include "control/remote_packages.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "control/artefacts_fixture.h"
#include "crypto/hash.h"

namespace mayfly {
namespace {

const std::string kNone = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const std::string kRefused = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n";

class RemotePackagesTest : public BucketFixture {
 protected:
  static Task<void> fetch(RemotePackages* r, std::string package, Status* out) {
    *out = co_await r->fetch(std::move(package));
  }
  static Task<void> ready(Artefacts* a, std::string package, Status* out) {
    *out = co_await a->ready(std::move(package), "default");
  }
  Result<std::string> upload(std::string_view content) {
    auto u = packages_->begin(1 << 20);
    EXPECT_TRUE((*u)->write(content).ok());
    Result<std::string> out = std::string();
    asio::co_spawn(io_, accept(artefacts_.get(), u->get(), &out), asio::detached);
    run();
    return out;
  }
  Status make_ready(std::string package) {
    Status out = Ok{};
    asio::co_spawn(io_, ready(artefacts_.get(), std::move(package), &out), asio::detached);
    run();
    return out;
  }
};

TEST_F(RemotePackagesTest, AnUploadIsAcknowledgedWhenTheBucketHasIt) {
  serve([](const std::string& head, int) { return Reply{head.starts_with("HEAD") ? kNone : kOk}; });
  const auto package = upload("model");
  ASSERT_TRUE(package.ok()) << package.error().message;
  EXPECT_TRUE(remote_->known(*package));
  EXPECT_EQ(server_->requests(), 2);
  EXPECT_EQ(server_->bodies()[1], "model");
  ASSERT_TRUE(upload("model").ok());
  ASSERT_TRUE(make_ready(*package).ok());
  EXPECT_EQ(server_->requests(), 2);  // known
}

TEST_F(RemotePackagesTest, AnUploadThatTheBucketRefusesLeavesNothing) {
  serve([](const std::string& head, int) { return Reply{head.starts_with("HEAD") ? kNone : kRefused}; });
  const auto package = upload("model");
  ASSERT_FALSE(package.ok());
  EXPECT_EQ(package.error().reason, "package_store_unavailable");
  EXPECT_TRUE(packages_->list()->empty());
  EXPECT_EQ(charged(), 0u);
}

TEST_F(RemotePackagesTest, ARefusedUploadTakesNothingFromTheVersionOfTheSamePackage) {
  serve([](const std::string& head, int) { return Reply{head.starts_with("HEAD") ? kNone : kRefused}; });
  ASSERT_TRUE((*packages_->begin(100))->write("x").ok());
  auto before = packages_->begin(100);
  ASSERT_TRUE((*before)->write("model").ok());
  const std::string package = *(*before)->finish();  // of a time without a bucket
  ASSERT_TRUE(store_->add_version(VersionRow{"default", "iris", 0, package, "{}", "{}", 1}).ok());
  EXPECT_FALSE(upload("model").ok());
  EXPECT_TRUE(packages_->verify(package).ok());
}

TEST_F(RemotePackagesTest, OneFetchServesAllWhoAsk) {
  std::mutex mutex;
  std::condition_variable opened;
  bool open = false;
  serve([&](const std::string& head, int) {
    std::unique_lock lock(mutex);
    opened.wait(lock, [&] { return open; });
    return Reply{honest(head, "model")};
  });
  std::vector<Status> got(5, Status(Ok{}));
  for (Status& out : got) asio::co_spawn(io_, fetch(remote_.get(), sha256_hex("model"), &out), asio::detached);
  io_.poll();  // all have asked; the gate is shut
  {
    const std::lock_guard lock(mutex);
    open = true;
    opened.notify_all();
  }
  run();
  for (const Status& st : got) EXPECT_TRUE(st.ok());
  EXPECT_EQ(server_->requests(), 1);
  EXPECT_TRUE(packages_->verify(sha256_hex("model")).ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path() + "/packages/tmp"));
}

TEST_F(RemotePackagesTest, WrongContentIsNeverKept) {
  serve([](const std::string& head, int) { return Reply{honest(head, "another")}; });
  Status out = Ok{};
  asio::co_spawn(io_, fetch(remote_.get(), sha256_hex("model"), &out), asio::detached);
  run();
  ASSERT_FALSE(out.ok());
  EXPECT_EQ(out.error().reason, "package_corrupt");
  EXPECT_TRUE(packages_->list()->empty());
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path() + "/packages/tmp"));
}

TEST_F(RemotePackagesTest, ADeployOfWhatOnlyTheBucketHasIsCharged) {
  const std::string model = sha256_hex("model");
  serve([&](const std::string& head, int) {
    const bool there = head.find(model) != std::string::npos;
    return Reply{there ? "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" : kNone};
  });
  EXPECT_TRUE(make_ready(model).ok());
  EXPECT_EQ(charged(), 5u);
  EXPECT_EQ(make_ready(sha256_hex("other")).error().reason, "package_not_found");
  EXPECT_EQ(server_->requests(), 2);
  EXPECT_EQ(make_ready("../../etc/passwd").error().reason, "invalid_digest");
  EXPECT_EQ(server_->requests(), 2);
}

}  // namespace
}  // namespace mayfly
