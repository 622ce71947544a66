#include "control/fetches.h"

#include <gtest/gtest.h>

#include <condition_variable>

#include "control/artefacts_fixture.h"
#include "crypto/hash.h"

namespace mayfly {
namespace {

const std::string kContent(5'000, 'm');

class FetchesTest : public ArtefactsFixture {
 protected:
  FetchesTest() : ArtefactsFixture(20'000) {}
  // Every request waits for this gate.
  Reply honest_behind_gate(const std::string& head) {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return open_; });
    return Reply{honest(head, kContent)};
  }
  void open_gate() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    opened_.notify_all();
  }
  void serve(const TestServer& server) {
    FetchOptions o;
    ASSERT_TRUE(o.transport.policy.allow(fmt::format("127.0.0.1:{}", server.port())).ok());
    fetcher_ = *Fetcher::create(std::move(o));
    fetches_ = std::make_unique<Fetches>(options_, *fetcher_, *packages_, *artefacts_, log_);
  }
  static Task<void> get(Fetches* f, std::string tenant, std::string source, Result<std::string>* out) {
    *out = co_await f->package_of(std::move(tenant), std::move(source));
  }
  void spawn(std::string tenant, std::string source, Result<std::string>* out) {
    asio::co_spawn(io_, get(fetches_.get(), std::move(tenant), std::move(source), out), asio::detached);
  }

  std::unique_ptr<Fetcher> fetcher_;
  std::unique_ptr<Fetches> fetches_;
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

TEST_F(FetchesTest, OneFetchForAllOfATenantWhoWait) {
  TestServer server([this](const std::string& head, int) { return honest_behind_gate(head); });
  serve(server);
  std::vector<Result<std::string>> got(5, Result<std::string>(std::string()));
  for (auto& out : got) spawn("default", server.url("/m"), &out);
  Result<std::string> other = std::string();
  spawn("other", server.url("/m"), &other);
  io_.poll();  // all have asked; the gate is shut, so no fetch can have ended
  open_gate();
  io_.run();
  for (auto& out : got) {
    ASSERT_TRUE(out.ok()) << out.error().message;
    EXPECT_EQ(*out, sha256_hex(kContent));
  }
  ASSERT_FALSE(other.ok());  // its own fetch ran, and its bytes can be charged to nobody
  EXPECT_EQ(other.error().reason, "tenant_not_found");
  EXPECT_EQ(server.requests(), 2);  // one for each tenant
  EXPECT_EQ(*store_->package_bytes_of("default"), kContent.size());
}

TEST_F(FetchesTest, AFailureIsToldToAllAndChargesNobody) {
  open_gate();
  TestServer server([](const std::string&, int) { return Reply{"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"}; });
  serve(server);
  std::vector<Result<std::string>> got(3, Result<std::string>(std::string()));
  for (auto& out : got) spawn("default", server.url("/m"), &out);
  io_.run();
  for (auto& out : got) {
    ASSERT_FALSE(out.ok());
    EXPECT_EQ(out.error().reason, "source_not_found");
  }
  EXPECT_EQ(server.requests(), 1);
  EXPECT_EQ(*store_->package_bytes_of("default"), 0U);
  EXPECT_TRUE(packages_->list()->empty());
}

TEST_F(FetchesTest, TheQuotaIsKnownBeforeTheBytesCome) {
  TestServer server([](const std::string&, int) {
    return Reply{"HTTP/1.1 200 OK\r\nContent-Length: 20001\r\n\r\n", Reply::Then::kHang};
  });
  serve(server);
  Result<std::string> got = std::string();
  spawn("default", server.url("/m"), &got);
  io_.run();
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().reason, "payload_too_large");
}

}  // namespace
}  // namespace mayfly
