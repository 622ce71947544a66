#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "crypto/hash.h"
#include "store/packages.h"
#include "store/test_folder.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kLimit = 1 << 20;

std::size_t files_below(const std::string& dir) {
  std::size_t n = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) n += entry.is_regular_file() ? 1 : 0;
  return n;
}

class PackageStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { reopen(); }
  void reopen() {
    auto opened = open_package_store(dir_);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    store_ = *std::move(opened);
  }
  std::string put(std::string_view bytes) {
    auto upload = store_->begin(kLimit);
    EXPECT_TRUE(upload.ok());
    EXPECT_TRUE((*upload)->write(bytes).ok());
    EXPECT_EQ((*upload)->bytes(), bytes.size());
    auto digest = (*upload)->finish();
    EXPECT_TRUE(digest.ok());
    return digest.ok() ? *digest : "";
  }
  std::string path(const std::string& digest) const { return dir_ + "/" + digest.substr(0, 2) + "/" + digest; }
  // As a failing disk would: past the read-only mode.
  void damage(const std::string& digest, std::string_view bytes) {
    ASSERT_EQ(::chmod(path(digest).c_str(), 0600), 0);
    std::ofstream(path(digest), std::ios::trunc) << bytes;
  }
  std::string content(const Fd& file) {
    std::string text(1000, '\0');
    const ssize_t n = ::pread(file.get(), text.data(), text.size(), 0);
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return text;
  }

  TestFolder folder_;
  const std::string dir_ = folder_.path() + "/packages";
  std::unique_ptr<PackageStore> store_;
};

TEST_F(PackageStoreTest, StoresUnderItsDigest) {
  const std::string digest = put("a model");
  EXPECT_EQ(digest, sha256_hex("a model"));
  reopen();
  auto file = store_->open(digest);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(content(*file), "a model");
  EXPECT_TRUE(store_->verify(digest).ok());
  struct stat info{};
  ASSERT_EQ(::fstat(file->get(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0444u);
  EXPECT_NE(::fcntl(file->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_THAT(*store_->list(), ::testing::ElementsAre(digest));
  EXPECT_EQ(files_below(dir_), 1u);
}

TEST_F(PackageStoreTest, TheSameContentIsKeptOnce) {
  const std::string digest = put("a model");
  auto before = store_->open(digest);
  EXPECT_EQ(put("a model"), digest);
  auto after = store_->open(digest);
  struct stat first{}, second{};
  ASSERT_EQ(::fstat(before->get(), &first), 0);
  ASSERT_EQ(::fstat(after->get(), &second), 0);
  EXPECT_EQ(first.st_ino, second.st_ino);
  EXPECT_EQ(files_below(dir_), 1u);
}

TEST_F(PackageStoreTest, DroppedUploadLeavesNothing) {
  {
    auto upload = store_->begin(kLimit);
    ASSERT_TRUE((*upload)->write(std::string(100'000, 'x')).ok());
    EXPECT_EQ(files_below(dir_), 1u);
  }
  EXPECT_EQ(files_below(dir_), 0u);
}

TEST_F(PackageStoreTest, UploadOfAKilledProcessIsClearedAtOpen) {
  const std::string kept = put("kept");
  const pid_t child = ::fork();
  if (child == 0) {
    auto upload = store_->begin(kLimit);
    if (upload.ok() && (*upload)->write(std::string(1000, 'x')).ok()) ::raise(SIGKILL);
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_EQ(files_below(dir_ + "/tmp"), 1u);
  reopen();
  EXPECT_EQ(files_below(dir_ + "/tmp"), 0u);
  EXPECT_THAT(*store_->list(), ::testing::ElementsAre(kept));
}

TEST_F(PackageStoreTest, LimitIsExactAndTheUploadStaysRefused) {
  auto exact = store_->begin(10);
  ASSERT_TRUE((*exact)->write(std::string(10, 'x')).ok());
  EXPECT_TRUE((*exact)->finish().ok());

  auto over = store_->begin(10);
  ASSERT_TRUE((*over)->write(std::string(9, 'y')).ok());
  auto refused = (*over)->write(std::string(2, 'y'));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().reason, "payload_too_large");
  EXPECT_EQ(http_status(refused.error()), 413);
  EXPECT_EQ((*over)->write(std::string(1, 'y')).error().reason, "payload_too_large");
  EXPECT_EQ((*over)->finish().error().reason, "payload_too_large");
  EXPECT_EQ(files_below(dir_), 1u);
}

TEST_F(PackageStoreTest, FinishTwiceIsRefused) {
  auto upload = store_->begin(kLimit);
  ASSERT_TRUE((*upload)->finish().ok());  // an empty package is a package
  EXPECT_EQ((*upload)->finish().error().reason, "upload_finished");
  EXPECT_EQ((*upload)->write(std::string("x")).error().reason, "upload_finished");
}

TEST_F(PackageStoreTest, DamageIsDetectedAndHealedByAnUpload) {
  const std::string digest = put("a model");
  damage(digest, "A model");
  auto status = store_->verify(digest);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kDataLoss);
  EXPECT_EQ(status.error().reason, "package_corrupt");
  EXPECT_EQ(put("a model"), digest);
  EXPECT_TRUE(store_->verify(digest).ok());
  damage(digest, "a mod");
  EXPECT_EQ(store_->verify(digest).error().reason, "package_corrupt");
}

TEST_F(PackageStoreTest, RemoveKeepsOpenDescriptors) {
  const std::string digest = put("a model");
  auto file = store_->open(digest);
  ASSERT_TRUE(store_->remove(digest).ok());
  EXPECT_EQ(content(*file), "a model");
  EXPECT_EQ(store_->open(digest).error().reason, "package_not_found");
  EXPECT_EQ(store_->verify(digest).error().reason, "package_not_found");
  EXPECT_EQ(store_->remove(digest).error().reason, "package_not_found");
  EXPECT_TRUE(store_->list()->empty());
}

TEST_F(PackageStoreTest, DigestsAreCheckedBeforeTheyBecomePaths) {
  std::ofstream(folder_.path() + "/secret") << "s";
  std::string upper(64, 'A'), short_one(63, 'a'), long_one(65, 'a'), zero(64, 'a');
  zero[10] = '\0';
  const std::string dots = "../" + std::string(61, 'a');
  for (const std::string& bad : {std::string(), std::string("../secret"), dots, upper, short_one, long_one, zero}) {
    EXPECT_EQ(store_->open(bad).error().reason, "invalid_digest") << bad;
    EXPECT_EQ(store_->verify(bad).error().reason, "invalid_digest") << bad;
    EXPECT_EQ(store_->remove(bad).error().reason, "invalid_digest") << bad;
  }
  EXPECT_TRUE(std::filesystem::exists(folder_.path() + "/secret"));
}

TEST_F(PackageStoreTest, ListIgnoresWhatIsNotAPackage) {
  const std::string digest = put("a model");
  std::ofstream(dir_ + "/" + digest.substr(0, 2) + "/notes.txt") << "x";
  std::filesystem::create_directory(dir_ + "/zz");
  std::ofstream(dir_ + "/zz/" + digest) << "x";
  EXPECT_THAT(*store_->list(), ::testing::ElementsAre(digest));
}

// In a child with a mount namespace of its own: a file system of 64 KiB.
int fill_small_disk(const std::string& dir) {
  if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
  if (::mount("tmpfs", dir.c_str(), "tmpfs", 0, "size=64k") != 0) return 77;
  auto store = open_package_store(dir + "/packages");
  if (!store.ok()) return 2;
  auto upload = (*store)->begin(kLimit);
  if (!upload.ok()) return 3;
  auto status = (*upload)->write(std::string(256 * 1024, 'x'));
  if (status.ok() || status.error().reason != "disk_full") return 4;
  if (status.error().code != Code::kResourceExhausted) return 5;
  if (files_below(dir) != 0) return 6;  // the space is given back at once
  return 0;
}

TEST(PackageStoreDiskTest, AFullDiskIsSaidAndGivenBack) {
  TestFolder folder;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(fill_small_disk(folder.path()));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs the right to mount a tmpfs";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace mayfly
