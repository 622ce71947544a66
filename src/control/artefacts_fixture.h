// Artefacts over a store and packages in a folder of the test's own; its launcher starts nothing. For tests only.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <filesystem>
#include <memory>
#include <string>

#include "control/artefacts.h"
#include "control/remote_packages.h"
#include "fetch/test_server.h"
#include "store/test_folder.h"

namespace mayfly {

class ArtefactsFixture : public ::testing::Test {
 protected:
  explicit ArtefactsFixture(std::uint64_t tenant_quota_bytes = ControlOptions().tenant_quota_bytes,
                            std::size_t threads = 1)
      : blocking_(threads) {
    options_.tenant_quota_bytes = tenant_quota_bytes;
  }
  void SetUp() override {
    Transport::global_init();
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    far_end_.reset(pair[1]);
    launcher_ = std::make_unique<LauncherClient>(io_.get_executor(), Fd(pair[0]), [](std::string) {});
    std::filesystem::create_directories(folder_.path() + "/artefacts");
    store_ = *open_sqlite_store(folder_.path());
    packages_ = *open_package_store(folder_.path() + "/packages");
    options_.data_dir = folder_.path();
    artefacts_ = std::make_unique<Artefacts>(options_, *store_, *packages_, blocking_, *launcher_);
  }
  void run() {
    io_.restart();
    io_.run();
  }
  void spawn(Task<void> task) { asio::co_spawn(io_, std::move(task), asio::detached); }
  static Task<void> accept(Artefacts* a, PackageStore::Upload* upload, Result<std::string>* out) {
    *out = co_await a->accept(*upload, "default");
  }
  std::uint64_t charged() { return *store_->package_bytes_of("default"); }

  TestFolder folder_;
  asio::io_context io_;
  Fd far_end_;
  Fd null_{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
  Log log_{null_.get()};
  ControlOptions options_;
  BlockingPool blocking_;
  std::unique_ptr<LauncherClient> launcher_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<PackageStore> packages_;
  std::unique_ptr<Artefacts> artefacts_;
};

// The same with a bucket that answers as a script says.
class BucketFixture : public ArtefactsFixture {
 protected:
  void serve(TestServer::Script script) {
    server_ = std::make_unique<TestServer>(std::move(script));
    FetchOptions o;
    o.s3_endpoint = server_->url("");
    fetcher_ = *Fetcher::create(std::move(o));
    bucket_ = *Bucket::create(*fetcher_, "s3://models");
    remote_ = std::make_unique<RemotePackages>(*bucket_, *packages_, 1 << 20, log_);
    artefacts_->set_remote(*remote_);
  }

  std::unique_ptr<TestServer> server_;
  std::unique_ptr<Fetcher> fetcher_;
  std::unique_ptr<Bucket> bucket_;
  std::unique_ptr<RemotePackages> remote_;
};

}  // namespace mayfly
