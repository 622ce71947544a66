#include "control/disk_quota.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <random>

#include "control/artefacts_fixture.h"
#include "crypto/hash.h"

namespace mayfly {
namespace {

class Ignored final : public NodeObserver {
 public:
  void on_instance_event(const Version&, std::uint64_t, std::string_view, std::string_view) override {}
};

class DiskQuotaTest : public BucketFixture {
 protected:
  void SetUp() override {
    BucketFixture::SetUp();
    node_ = std::make_unique<Node>(io_.get_executor(), *launcher_, ignored_, 1ULL << 40);
  }
  void limit(std::uint64_t quota) {
    disk_ = std::make_unique<DiskQuota>(quota, *artefacts_, log_);
    disk_->attach(*node_);
    if (remote_) disk_->set_remote(*remote_);
    artefacts_->set_room(*disk_);
  }
  // A bucket in which nothing is, unless `holds` says how long every package is.
  void with_bucket(std::optional<std::uint64_t> holds = {}) {
    serve([holds](const std::string&, int) {
      return Reply{holds ? fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", *holds)
                         : "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"};
    });
  }
  // A package of a version, its artefact, and what that took to build.
  std::string model(char name, std::size_t package_bytes, std::size_t artefact_bytes, std::uint64_t build_ms) {
    auto upload = packages_->begin(1 << 20);
    EXPECT_TRUE((*upload)->write(std::string(package_bytes, name)).ok());
    std::string package = *(*upload)->finish();
    const auto file = artefacts_->file_of(package);
    file->bytes = artefact_bytes;
    file->build_ns = build_ms * 1'000'000;
    std::ofstream(file->path) << std::string(artefact_bytes, name);
    return package;
  }
  bool built(const std::string& package) { return ::access(artefacts_->path(package).c_str(), F_OK) == 0; }
  static Task<void> ask(DiskQuota* disk, std::uint64_t need, std::uint64_t expected, Status* out) {
    *out = co_await disk->make_room(need, expected);
  }
  Status make_room(std::uint64_t need, std::uint64_t expected = 0) {
    Status out = Ok{};
    asio::co_spawn(io_, ask(disk_.get(), need, expected, &out), asio::detached);
    run();
    return out;
  }
  static Task<void> pin(Artefacts* a, std::string package, std::optional<Artefacts::Hold>* out) {
    out->emplace(co_await a->pin(std::move(package)));
  }
  std::optional<Artefacts::Hold> hold(const std::string& package) {
    std::optional<Artefacts::Hold> out;
    asio::co_spawn(io_, pin(artefacts_.get(), package, &out), asio::detached);
    run();
    return out;
  }

  Ignored ignored_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<DiskQuota> disk_;
};

TEST_F(DiskQuotaTest, WithoutAQuotaNothingGoesAndAllIsCounted) {
  const std::string a = model('a', 100, 200, 10);
  limit(0);
  EXPECT_TRUE(make_room(1ULL << 40).ok());
  EXPECT_TRUE(built(a));
  EXPECT_EQ(disk_->use().packages, 100u);
  EXPECT_EQ(disk_->use().artefacts, 200u);
}

TEST_F(DiskQuotaTest, TheArtefactThatIsCheapestToHaveAgainGoes) {
  const std::string a = model('a', 10, 100, 500), b = model('b', 10, 100, 20), c = model('c', 10, 100, 300);
  limit(330);
  EXPECT_TRUE(make_room(0).ok());
  EXPECT_TRUE(built(a) && built(b) && built(c));
  EXPECT_TRUE(make_room(1).ok());
  EXPECT_TRUE(built(a) && !built(b) && built(c));
  EXPECT_FALSE(artefacts_->files().at(b)->dropped.empty());
  EXPECT_EQ(disk_->use().artefacts, 200u);
  EXPECT_TRUE(make_room(101).ok());
  EXPECT_TRUE(built(a) && !built(c));
  for (const std::string& package : {a, b, c}) EXPECT_TRUE(packages_->open(package).ok());  // nobody else has them
}

TEST_F(DiskQuotaTest, NothingGoesWhereThatWouldNotBeEnough) {
  const std::string a = model('a', 100, 100, 5), b = model('b', 100, 100, 5);
  limit(400);
  EXPECT_EQ(make_room(201).error().reason, "disk_quota_exceeded");
  EXPECT_EQ(make_room(10, 191).error().reason, "disk_quota_exceeded");  // with what is to come
  EXPECT_TRUE(built(a) && built(b));
  EXPECT_TRUE(make_room(10, 190).ok());
  EXPECT_NE(built(a), built(b));  // what is to come takes nothing yet
}

TEST_F(DiskQuotaTest, WhatIsHeldStays) {
  const std::string a = model('a', 100, 100, 5), b = model('b', 100, 100, 500);
  const auto held = hold(a);
  limit(400);
  EXPECT_TRUE(make_room(100).ok());
  EXPECT_TRUE(built(a));
  EXPECT_FALSE(built(b));
  EXPECT_EQ(make_room(200).error().reason, "disk_quota_exceeded");
  EXPECT_TRUE(built(a));
}

TEST_F(DiskQuotaTest, APackageGoesOnlyIfTheBucketHasIt) {
  with_bucket();
  const std::string a = model('a', 1000, 10, 60'000);
  limit(1010);
  EXPECT_EQ(make_room(20).error().reason, "disk_quota_exceeded");
  EXPECT_TRUE(packages_->open(a).ok());
  EXPECT_TRUE(make_room(10).ok());
  EXPECT_FALSE(built(a));
}

TEST_F(DiskQuotaTest, TheBucketIsAskedWhereNothingElseIsLeft) {
  with_bucket(1000);
  const std::string a = model('a', 1000, 10, 60'000), b = model('b', 999, 10, 60'000);
  limit(2019);
  EXPECT_TRUE(make_room(5).ok());
  EXPECT_EQ(server_->requests(), 0);
  EXPECT_TRUE(make_room(900).ok());
  EXPECT_FALSE(packages_->open(a).ok());
  EXPECT_TRUE(packages_->open(b).ok());  // an object of another length is not it
}

// Of a package that is not here the artefact is all there is to go, and it can be had again; without a bucket it can't.
TEST_F(DiskQuotaTest, AnArtefactThatCouldNotBeBuiltAgainStays) {
  const std::string a = model('a', 100, 100, 1), b = model('b', 100, 100, 1000);
  ASSERT_TRUE(packages_->remove(a).ok());
  limit(300);
  EXPECT_TRUE(make_room(1).ok());
  EXPECT_TRUE(built(a));
  EXPECT_FALSE(built(b));
}

TEST_F(DiskQuotaTest, WhateverIsOnTheDiskTheQuotaHoldsOrNothingGoes) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  with_bucket();
  std::vector<std::string> all;
  std::vector<std::optional<Artefacts::Hold>> holds;
  for (int i = 0; i < 12; ++i) {
    all.push_back(model(static_cast<char>('a' + i), 1 + random() % 300, 1 + random() % 300, random() % 1000));
    if (random() % 4 == 0) holds.push_back(hold(all.back()));
    if (random() % 2 == 0) remote_->note(all.back());
  }
  const auto files = [&] {
    std::vector<bool> out;
    for (const std::string& p : all) {
      out.push_back(built(p));
      out.push_back(packages_->open(p).ok());
    }
    return out;
  };
  for (int i = 0; i < 30; ++i) {
    limit(500 + random() % 4000);
    const std::uint64_t need = random() % 500;
    const auto before = files();
    const bool ok = make_room(need).ok();
    if (!ok) EXPECT_EQ(files(), before);
    const std::uint64_t used = disk_->use().used();
    if (ok) EXPECT_LE(used + need, disk_->use().quota);
    EXPECT_TRUE(make_room(0).ok() || !ok);
    if (ok) EXPECT_EQ(disk_->use().used(), used);  // as counted again
  }
}

TEST(DiskResident, WhatAFileIsWorth) {
  const auto worth = [](const policy::Resident& r) {
    return static_cast<double>(r.restart_ns) * r.use / static_cast<double>(r.own_bytes);
  };
  constexpr std::uint64_t kMs = 1'000'000;
  EXPECT_GT(worth(artefact_resident(100, 500 * kMs, 1, true, 0)), worth(artefact_resident(100, 50 * kMs, 1, true, 0)));
  EXPECT_GT(worth(artefact_resident(100, 50 * kMs, 1, false, kMs)),
            worth(artefact_resident(100, 50 * kMs, 1, true, kMs)));
  EXPECT_GT(worth(artefact_resident(100, 50 * kMs, 1, true, 0)), worth(artefact_resident(100, 50 * kMs, 0.1, true, 0)));
  EXPECT_GT(worth(package_resident(100, kMs, 1, false)), worth(package_resident(100, kMs, 1, true)));
  EXPECT_GT(worth(artefact_resident(100, 500 * kMs, 1, true, kMs)), worth(package_resident(100, kMs, 1, true)));
}

}  // namespace
}  // namespace mayfly
