#include "control/artefacts.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <future>

#include "control/artefacts_fixture.h"
#include "crypto/hash.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kQuota = 100;
constexpr int kThreads = 2;

class ArtefactsTest : public ArtefactsFixture {
 protected:
  ArtefactsTest() : ArtefactsFixture(kQuota, kThreads) {}
  std::unique_ptr<PackageStore::Upload> begin(std::string_view content) {
    auto upload = packages_->begin(kQuota);
    EXPECT_TRUE((*upload)->write(content).ok());
    return *std::move(upload);
  }
  static Task<void> collect(Artefacts* a, std::vector<std::string> packages) {
    co_await a->collect(std::move(packages));
  }
  static Task<void> hold(Artefacts* a, std::string package, std::optional<Artefacts::Hold>* out) {
    out->emplace(co_await a->hold(std::move(package)));
  }
  static Task<void> sweep(Artefacts* a, std::unordered_set<std::string> used, Artefacts::Swept* out) {
    *out = co_await a->sweep(std::move(used));
  }
  static Task<void> occupy(BlockingPool* pool, std::shared_future<void> until) {
    auto wait = [until] {
      until.wait();
      return Ok{};
    };
    co_await pool->run(wait);
  }
  std::string upload(std::string_view content) {
    auto u = begin(content);
    Result<std::string> out = std::string();
    spawn(accept(artefacts_.get(), u.get(), &out));
    run();
    EXPECT_TRUE(out.ok()) << out.error().message;
    return out.ok() ? *out : "";
  }
  // Puts an artefact where a deploy would.
  void make_artefact(const std::string& package) { std::ofstream(artefacts_->path(package)) << "artefact"; }
  bool has_artefact(const std::string& package) { return ::access(artefacts_->path(package).c_str(), F_OK) == 0; }
  void add_version(const std::string& package) {
    ASSERT_TRUE(store_->add_version(VersionRow{"default", "iris", 0, package, "{}", "{}", 1}).ok());
  }
};

TEST_F(ArtefactsTest, UploadsAtTheSameTimeStayWithinTheQuota) {
  std::vector<std::unique_ptr<PackageStore::Upload>> uploads;
  std::vector<Result<std::string>> out(4, std::string());
  for (char c : {'a', 'b', 'c', 'd'}) uploads.push_back(begin(std::string(40, c)));  // all begin while there is room
  for (std::size_t i = 0; i < uploads.size(); ++i) spawn(accept(artefacts_.get(), uploads[i].get(), &out[i]));
  run();
  uploads.clear();
  std::size_t refused = 0;
  for (const auto& digest : out) {
    if (digest.ok()) continue;
    EXPECT_EQ(digest.error().reason, "quota_exceeded");
    ++refused;
  }
  EXPECT_EQ(refused, 2u);
  EXPECT_EQ(charged(), 80u);
  EXPECT_EQ(packages_->list()->size(), 2u);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path() + "/packages/tmp"));
}

TEST_F(ArtefactsTest, TheSameContentAgainCostsNothing) {
  const std::string first = upload(std::string(80, 'a'));
  EXPECT_EQ(upload(std::string(80, 'a')), first);
  EXPECT_EQ(charged(), 80u);
}

TEST_F(ArtefactsTest, OnlyWhatNobodyUsesIsCollected) {
  const std::string referred = upload("referred"), held = upload("held"), fresh = upload("fresh"),
                    gone = upload("gone");
  add_version(referred);
  std::optional<Artefacts::Hold> holds[3];
  spawn(hold(artefacts_.get(), referred, &holds[0]));
  spawn(hold(artefacts_.get(), held, &holds[1]));
  spawn(hold(artefacts_.get(), gone, &holds[2]));
  run();
  holds[0]->release();  // its deploy has ended: the version refers to it
  holds[2]->release();  // refused
  make_artefact(referred);
  make_artefact(gone);
  spawn(collect(artefacts_.get(), {referred, held, fresh, gone, "../../etc/passwd"}));
  run();
  EXPECT_TRUE(packages_->verify(referred).ok());
  EXPECT_TRUE(packages_->verify(held).ok());
  EXPECT_TRUE(packages_->verify(fresh).ok());
  EXPECT_EQ(packages_->verify(gone).error().reason, "package_not_found");
  EXPECT_TRUE(has_artefact(referred));
  EXPECT_FALSE(has_artefact(gone));
  EXPECT_EQ(charged(), 8u + 4 + 5);
  artefacts_->keep_for_retry(held);  // the server's fault
  holds[1]->release();
  spawn(collect(artefacts_.get(), {held}));
  run();
  EXPECT_TRUE(packages_->verify(held).ok());
}

// The hold comes while the package's removal waits for a thread: it must wait, and then find nothing, rather than find
// a package that goes away under it. The other way round the package stays.
TEST_F(ArtefactsTest, CollectionAndDeployOfOnePackageKeepApart) {
  const std::string package = upload("model");
  std::optional<Artefacts::Hold> first, second;
  spawn(hold(artefacts_.get(), package, &first));
  run();
  first.reset();
  std::promise<void> go;
  const std::shared_future<void> gone = go.get_future().share();
  for (int i = 0; i < kThreads; ++i) spawn(occupy(&blocking_, gone));
  spawn(collect(artefacts_.get(), {package}));
  spawn(hold(artefacts_.get(), package, &second));
  io_.restart();
  io_.poll();
  EXPECT_FALSE(second);
  go.set_value();
  run();
  EXPECT_TRUE(second);
  EXPECT_EQ(packages_->open(package).error().reason, "package_not_found");
  EXPECT_EQ(upload("model"), package);  // again, while the deploy runs
  spawn(collect(artefacts_.get(), {package}));
  run();
  EXPECT_TRUE(packages_->verify(package).ok());
}

TEST_F(ArtefactsTest, SweepRemovesWhatNoVersionNeeds) {
  const std::string used = upload("used"), left = upload("left");
  make_artefact(used);
  make_artefact(left);
  std::ofstream(folder_.path() + "/artefacts/tmp-0123456789abcdef") << "half";
  const std::string no_file = sha256_hex("no file"), no_row = upload("no row");
  ASSERT_TRUE(store_->note_package(no_file, "default", 20).ok());
  ASSERT_TRUE(store_->forget_package(no_row).ok());
  Artefacts::Swept swept;
  spawn(sweep(artefacts_.get(), {used}, &swept));
  run();
  EXPECT_EQ(swept.packages, 3u);
  EXPECT_EQ(swept.artefacts, 2u);
  EXPECT_EQ(*packages_->list(), std::vector{used});
  EXPECT_EQ(charged(), 4u);
  EXPECT_TRUE(has_artefact(used));
  EXPECT_FALSE(has_artefact(left));
}

TEST(UploadsTest, ExpireAfterAnHourUnlessADeployTakesThem) {
  Uploads uploads;
  uploads.add("a", 1);
  uploads.add("b", 2);
  uploads.add("c", 3);
  uploads.take("b");
  uploads.add("c", 10);  // again: its hour begins anew
  EXPECT_TRUE(uploads.take_expired(Uploads::kKeptNs).empty());
  EXPECT_EQ(uploads.take_expired(Uploads::kKeptNs + 9), std::vector<std::string>{"a"});
  EXPECT_TRUE(uploads.contains("c"));
  EXPECT_EQ(uploads.take_expired(Uploads::kKeptNs + 10), std::vector<std::string>{"c"});
}

}  // namespace
}  // namespace mayfly
