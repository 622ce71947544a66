#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <thread>

#include "base/fd.h"
#include "store/statement.h"
#include "store/store.h"
#include "store/test_folder.h"

namespace mayfly {
namespace {

VersionRow version_of(const std::string& endpoint, const std::string& tenant = "default") {
  return VersionRow{tenant, endpoint, 0, std::string(64, 'a'), R"({"min":0})", R"({"ms":3})", 1'700'000'000'123};
}

class SqliteStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { reopen(); }
  void reopen() {
    store_.reset();
    auto opened = open_sqlite_store(folder_.path());
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    store_ = *std::move(opened);
  }
  std::uint32_t add(const std::string& endpoint) {
    auto number = store_->add_version(version_of(endpoint));
    EXPECT_TRUE(number.ok()) << number.error().message;
    return number.ok() ? *number : 0;
  }

  TestFolder folder_;
  std::unique_ptr<Store> store_;
};

TEST_F(SqliteStoreTest, AVersionLikeAnotherIsTheTenantsOwnAndPrefersTheSameSettings) {
  VersionRow other = version_of("other");
  other.settings_json = R"({"min":1})";
  other.report_json = R"({"ms":4})";
  ASSERT_TRUE(store_->add_version(other).ok());
  add("iris");
  auto like = [&](std::string_view tenant, std::string_view package, std::string_view settings) {
    auto found = store_->version_like(tenant, package, settings);
    EXPECT_TRUE(found.ok());
    return *found ? (*found)->endpoint + " " + (*found)->settings_json + " " + (*found)->report_json : "none";
  };
  const std::string package(64, 'a');
  EXPECT_EQ(like("default", package, R"({"min":0})"), R"(iris {"min":0} {"ms":3})");
  EXPECT_EQ(like("default", package, R"({"min":1})"), R"(other {"min":1} {"ms":4})");
  EXPECT_NE(like("default", package, R"({"min":2})"), "none");
  EXPECT_EQ(like("default", std::string(64, 'b'), R"({"min":0})"), "none");
  EXPECT_EQ(like("tenant-2", package, R"({"min":0})"), "none");
}

TEST_F(SqliteStoreTest, VersionsOfOneEndpoint) {
  add("iris");
  add("digits");
  add("iris");
  auto versions = store_->versions_of("default", "iris");
  ASSERT_TRUE(versions.ok());
  ASSERT_EQ(versions->size(), 2u);
  EXPECT_EQ((*versions)[0].number, 1u);
  EXPECT_EQ((*versions)[1].number, 2u);
  EXPECT_EQ((*versions)[1].endpoint, "iris");
  EXPECT_TRUE(store_->versions_of("default", "none")->empty());
}

TEST_F(SqliteStoreTest, VersionsAreNumberedAndTheLastIsLive) {
  EXPECT_EQ(add("iris"), 1u);
  EXPECT_EQ(add("iris"), 2u);
  EXPECT_EQ(add("digits"), 1u);
  reopen();
  auto endpoints = store_->endpoints();
  ASSERT_TRUE(endpoints.ok());
  ASSERT_EQ(endpoints->size(), 2u);
  EXPECT_EQ((*endpoints)[0].name, "digits");
  EXPECT_EQ((*endpoints)[1].name, "iris");
  EXPECT_EQ((*endpoints)[1].live_version, 2u);
  EXPECT_EQ((*endpoints)[1].created_ms, 1'700'000'000'123u);
  auto versions = store_->versions();
  ASSERT_TRUE(versions.ok());
  ASSERT_EQ(versions->size(), 3u);
  const VersionRow& row = (*versions)[2];
  EXPECT_EQ(row.number, 2u);
  EXPECT_EQ(row.package, std::string(64, 'a'));
  EXPECT_EQ(row.settings_json, R"({"min":0})");
  EXPECT_EQ(row.report_json, R"({"ms":3})");
  EXPECT_EQ(row.created_ms, 1'700'000'000'123u);
}

TEST_F(SqliteStoreTest, WhatWasMeasuredOfAVersionIsKeptWithIt) {
  add("iris");
  add("iris");
  ASSERT_TRUE(store_
                  ->note_measures({{"default", "iris", 2, R"({"private_bytes":1})"},
                                   {"default", "iris", 7, "of a version that never was"},
                                   {"default", "gone", 1, "of an endpoint that is gone"}})
                  .ok());
  reopen();
  auto versions = store_->versions();
  ASSERT_EQ(versions->size(), 2u);
  EXPECT_EQ((*versions)[0].measures_json, "");
  EXPECT_EQ((*versions)[1].measures_json, R"({"private_bytes":1})");
}

TEST_F(SqliteStoreTest, NumbersAreNotReusedAfterDelete) {
  add("iris");
  add("iris");
  ASSERT_TRUE(store_->delete_endpoint("default", "iris").ok());
  EXPECT_TRUE(store_->versions()->empty());
  EXPECT_TRUE(store_->endpoints()->empty());
  reopen();
  EXPECT_EQ(add("iris"), 3u);
  EXPECT_EQ(store_->versions()->size(), 1u);
}

TEST_F(SqliteStoreTest, DeletingAnUnknownEndpointSaysSo) {
  auto status = store_->delete_endpoint("default", "iris");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kNotFound);
  EXPECT_EQ(status.error().reason, "endpoint_not_found");
  EXPECT_THAT(status.error().message, ::testing::HasSubstr("iris"));
  EXPECT_EQ(store_->prune_versions("default", "iris", 2).error().reason, "endpoint_not_found");
}

TEST_F(SqliteStoreTest, PruneKeepsTheLiveVersion) {
  for (int i = 0; i < 4; ++i) add("iris");
  ASSERT_TRUE(store_->prune_versions("default", "iris", 3).ok());
  EXPECT_EQ(store_->versions()->size(), 2u);
  ASSERT_TRUE(store_->prune_versions("default", "iris", 99).ok());
  ASSERT_EQ(store_->versions()->size(), 1u);
  EXPECT_EQ((*store_->versions())[0].number, 4u);
}

TEST_F(SqliteStoreTest, UnknownTenantIsRefusedAndUsesNoNumber) {
  auto number = store_->add_version(version_of("iris", "nobody"));
  ASSERT_FALSE(number.ok());
  EXPECT_EQ(number.error().reason, "tenant_not_found");
  EXPECT_EQ(store_->add_key(KeyRow{"k1", "nobody", "", "", "", 0, false, {}}).error().reason, "tenant_not_found");
  EXPECT_EQ(store_->note_package("d", "nobody", 1).error().reason, "tenant_not_found");
  EXPECT_TRUE(store_->endpoints()->empty());
}

TEST_F(SqliteStoreTest, KeysAreAddedListedAndRevoked) {
  const KeyRow row{"abcdefghijkl", "default", "ci'; DROP TABLE keys; --", "invoke,deploy", std::string(64, '0'), 5,
                   false,          {}};
  ASSERT_TRUE(store_->add_key(row).ok());
  EXPECT_EQ(store_->add_key(row).error().reason, "key_exists");
  EXPECT_EQ(store_->revoke_key("nope").error().reason, "key_not_found");
  EXPECT_FALSE((*store_->keys())[0].revoked);
  ASSERT_TRUE(store_->revoke_key(row.id).ok());
  reopen();
  auto keys = store_->keys();
  ASSERT_TRUE(keys.ok());
  ASSERT_EQ(keys->size(), 1u);
  EXPECT_EQ((*keys)[0].name, row.name);
  EXPECT_EQ((*keys)[0].scopes, row.scopes);
  EXPECT_EQ((*keys)[0].hash, row.hash);
  EXPECT_TRUE((*keys)[0].revoked);
}

TEST_F(SqliteStoreTest, LimitsOfKeysAreKept) {
  const KeyLimits none, some{0.001, 20, 8, 2}, most{1e6, 1'000'000, 100'000, 100};
  ASSERT_TRUE(store_->add_key(KeyRow{"plain", "default", "a", "invoke", "", 1, false, none}).ok());
  ASSERT_TRUE(store_->add_key(KeyRow{"limited", "default", "b", "invoke", "", 2, false, some}).ok());
  reopen();
  EXPECT_EQ((*store_->keys())[0].limits, none);
  EXPECT_EQ((*store_->keys())[1].limits, some);
  ASSERT_TRUE(store_->set_key_limits("plain", most).ok());
  EXPECT_EQ(store_->set_key_limits("nope", most).error().reason, "key_not_found");
  reopen();
  EXPECT_EQ((*store_->keys())[0].limits, most);
  EXPECT_EQ((*store_->keys())[1].limits, some);
}

// A data folder of the first release: its keys table as it was, with a key in it.
TEST_F(SqliteStoreTest, KeysOfTheFirstSchemaGetNoLimits) {
  store_.reset();
  {
    auto db = open_database(folder_.path() + "/mayfly.db", 1000);
    ASSERT_TRUE(db.ok());
    ASSERT_TRUE(execute(db->get(), R"(
ALTER TABLE versions DROP COLUMN measures_json;
DROP INDEX versions_by_package;
DROP TABLE artefacts;
DROP TABLE keys;
CREATE TABLE keys(
  id TEXT PRIMARY KEY NOT NULL, tenant TEXT NOT NULL REFERENCES tenants(name), name TEXT NOT NULL, scopes TEXT NOT NULL,
  hash TEXT NOT NULL, created_ms INTEGER NOT NULL, revoked INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO keys VALUES('abcdefghijkl', 'default', 'old', 'admin', 'hash', 7, 1);
PRAGMA user_version = 1)")
                    .ok());
  }
  reopen();
  auto keys = store_->keys();
  ASSERT_TRUE(keys.ok()) << keys.error().message;
  ASSERT_EQ(keys->size(), 1u);
  EXPECT_EQ((*keys)[0].name, "old");
  EXPECT_TRUE((*keys)[0].revoked);
  EXPECT_EQ((*keys)[0].limits, KeyLimits{});
  EXPECT_TRUE(store_->set_key_limits("abcdefghijkl", KeyLimits{5, 1, 1, 1}).ok());
}

TEST_F(SqliteStoreTest, PackageBytesCountOnceForEachDigest) {
  EXPECT_EQ(*store_->package_bytes_of("default"), 0u);
  ASSERT_TRUE(store_->note_package("d1", "default", 100).ok());
  ASSERT_TRUE(store_->note_package("d1", "default", 100).ok());
  ASSERT_TRUE(store_->note_package("d2", "default", 23).ok());
  EXPECT_EQ(*store_->package_bytes_of("default"), 123u);
  ASSERT_TRUE(store_->forget_package("d1").ok());
  ASSERT_TRUE(store_->forget_package("d1").ok());
  EXPECT_EQ(*store_->package_bytes_of("default"), 23u);
}

TEST_F(SqliteStoreTest, WhatIsKnownOfArtefactsStays) {
  ASSERT_TRUE(store_->note_artefact({"b.ort", 10, 3}).ok());
  ASSERT_TRUE(store_->note_artefact({"a.ort", 20, 4}).ok());
  ASSERT_TRUE(store_->note_artefact({"b.ort", 30, 5}).ok());  // built again
  reopen();
  auto rows = store_->artefacts();
  ASSERT_TRUE(rows.ok()) << rows.error().message;
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[0].file, "a.ort");
  EXPECT_EQ((*rows)[1].bytes, 30u);
  EXPECT_EQ((*rows)[1].build_ms, 5u);
  ASSERT_TRUE(store_->forget_artefact("b.ort").ok());
  ASSERT_TRUE(store_->forget_artefact("b.ort").ok());
  EXPECT_EQ(store_->artefacts()->size(), 1u);
}

TEST_F(SqliteStoreTest, ThePackagesLengthIsKnownWhileSomebodyPaysForIt) {
  EXPECT_EQ(*store_->package_bytes("d1"), 0u);
  ASSERT_TRUE(store_->note_package("d1", "default", 60).ok());
  EXPECT_EQ(*store_->package_bytes("d1"), 60u);
}

TEST_F(SqliteStoreTest, APackageOverTheLimitIsRefusedAndNotCharged) {
  ASSERT_TRUE(store_->note_package("d1", "default", 60, 100).ok());
  ASSERT_TRUE(store_->note_package("d1", "default", 60, 100).ok());  // the same again is not counted twice
  auto refused = store_->note_package("d2", "default", 41, 100);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().reason, "quota_exceeded");
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("60 of its quota of 100 bytes"));
  EXPECT_FALSE(store_->note_package("d2", "default", ~0ULL, 100).ok());
  EXPECT_EQ(*store_->package_bytes_of("default"), 60u);
  EXPECT_TRUE(store_->note_package("d2", "default", 40, 100).ok());
}

TEST_F(SqliteStoreTest, ThreadsTogetherStayWithinTheLimit) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 10; ++i) {
        static_cast<void>(store_->note_package("d" + std::to_string(t * 10 + i), "default", 7, 100).ok());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(*store_->package_bytes_of("default"), 98u);
}

TEST_F(SqliteStoreTest, PackagesInUseAreThoseOfVersions) {
  ASSERT_TRUE(store_->note_package("d1", "default", 1).ok());
  ASSERT_TRUE(store_->note_package("d2", "default", 1).ok());
  EXPECT_EQ(*store_->packages(), (std::vector<std::string>{"d1", "d2"}));
  EXPECT_FALSE(*store_->package_in_use(std::string(64, 'a')));
  add("iris");
  EXPECT_TRUE(*store_->package_in_use(std::string(64, 'a')));
  ASSERT_TRUE(store_->delete_endpoint("default", "iris").ok());
  EXPECT_FALSE(*store_->package_in_use(std::string(64, 'a')));
}

TEST_F(SqliteStoreTest, NumbersThatDoNotFitAreRefused) {
  EXPECT_EQ(store_->note_package("d1", "default", ~0ULL).error().reason, "value_too_large");
}

TEST_F(SqliteStoreTest, SecondOpenNamesTheHolder) {
  auto second = open_sqlite_store(folder_.path());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Code::kFailedPrecondition);
  EXPECT_EQ(second.error().reason, "data_directory_in_use");
  EXPECT_THAT(second.error().message, ::testing::HasSubstr(folder_.path()));
  EXPECT_THAT(second.error().message, ::testing::HasSubstr("pid " + std::to_string(::getpid()) + ";"));
}

TEST_F(SqliteStoreTest, FilesAreForTheirOwnerOnly) {
  add("iris");
  for (const char* name : {"mayfly.db", "mayfly.db-wal", "lock"}) {
    struct stat info{};
    ASSERT_EQ(::stat((folder_.path() + "/" + name).c_str(), &info), 0) << name;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << name;
  }
}

TEST_F(SqliteStoreTest, NewerSchemaIsRefusedAndUntouched) {
  add("iris");
  store_.reset();
  {
    auto db = open_database(folder_.path() + "/mayfly.db", 1000);
    ASSERT_TRUE(db.ok());
    ASSERT_TRUE(execute(db->get(), "PRAGMA user_version = 4711").ok());
  }
  auto refused = open_sqlite_store(folder_.path());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kFailedPrecondition);
  EXPECT_EQ(refused.error().reason, "newer_database");
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("4711"));
}

TEST_F(SqliteStoreTest, GarbageIsReportedAsCorrupt) {
  store_.reset();
  std::ofstream(folder_.path() + "/mayfly.db", std::ios::trunc) << std::string(8192, 'g');
  auto refused = open_sqlite_store(folder_.path());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().reason, "database_corrupt");
}

TEST_F(SqliteStoreTest, ThreadsGetDistinctNumbers) {
  std::vector<std::thread> threads;
  std::vector<std::vector<std::uint32_t>> numbers(4);
  for (auto& mine : numbers) {
    threads.emplace_back([this, &mine] {
      for (int i = 0; i < 10; ++i) mine.push_back(add("iris"));
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<std::uint32_t> all;
  for (auto& mine : numbers) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), 40u);
  EXPECT_EQ(*all.rbegin(), 40u);
}

TEST(SqliteStoreOpenTest, CreatesMissingFoldersForTheOwnerOnly) {
  TestFolder folder;
  const std::string dir = folder.path() + "/a/b";
  ASSERT_TRUE(open_sqlite_store(dir).ok());
  struct stat info{};
  ASSERT_EQ(::stat(dir.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST(SqliteStoreOpenTest, AFileInThePlaceOfTheFolderIsAnError) {
  TestFolder folder;
  std::ofstream(folder.path() + "/data") << "x";
  EXPECT_FALSE(open_sqlite_store(folder.path() + "/data").ok());
}

// Child of the durability test: tells every acknowledged number, until it is killed.
[[noreturn]] void add_versions_until_killed(const std::string& dir, int out) {
  auto store = open_sqlite_store(dir);
  while (store.ok()) {
    auto number = (*store)->add_version(version_of("iris"));
    if (!number.ok() || ::write(out, &*number, sizeof *number) != sizeof *number) break;
  }
  ::_exit(1);
}

TEST(SqliteStoreDurabilityTest, KillLosesNoAcknowledgedVersion) {
  TestFolder folder;
  std::uint32_t last = 0;
  for (int round = 0; round < 5; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) add_versions_until_killed(folder.path(), ends[1]);
    Fd read_end(ends[0]);
    ::close(ends[1]);
    const std::uint32_t kill_after = last + 7 + static_cast<std::uint32_t>(round) * 5;
    std::uint32_t number = 0;
    bool killed = false;
    while (::read(read_end.get(), &number, sizeof number) == sizeof number) {
      EXPECT_GT(number, last);
      last = number;
      if (!killed && number >= kill_after) killed = ::kill(child, SIGKILL) == 0;
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    auto store = open_sqlite_store(folder.path());
    ASSERT_TRUE(store.ok()) << store.error().message;
    auto versions = (*store)->versions();
    ASSERT_TRUE(versions.ok());
    // One more than was told may be there: committed, but killed before it was told.
    ASSERT_GE(versions->size(), last);
    ASSERT_LE(versions->size(), last + static_cast<std::uint32_t>(round) + 1);
    for (std::size_t i = 0; i < versions->size(); ++i) EXPECT_EQ((*versions)[i].number, i + 1);
    EXPECT_EQ((*(*store)->endpoints())[0].live_version, versions->size());
  }
}

}  // namespace
}  // namespace mayfly
