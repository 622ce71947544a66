// The PackageStore over a local folder: `dir`/ab/<digest> (mode 0444) and `dir`/tmp for uploads in progress.
//
// Thread-safe without a lock: uploads have temporary files of their own, and rename and unlink are atomic. One process
// at a time (open_sqlite_store's lock on the data directory), because opening clears `dir`/tmp. Digests are checked for
// syntax before they become part of a path.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>

#include "crypto/hash.h"
#include "store/packages.h"

namespace mayfly {
namespace {

constexpr std::size_t kDigestChars = 64;
constexpr std::size_t kReadBytes = 256 * 1024;

bool is_digest(std::string_view text) {
  return text.size() == kDigestChars &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Status check_digest(std::string_view digest) {
  if (is_digest(digest)) return Ok{};
  return invalid("invalid_digest", "a package digest is {} lower-case hex digits, not '{}' ({} characters)",
                 kDigestChars, digest.substr(0, kDigestChars), digest.size());
}

std::string folder_of(const std::string& dir, std::string_view digest) {
  return fmt::format("{}/{}", dir, digest.substr(0, 2));
}
std::string path_of(const std::string& dir, std::string_view digest) {
  return fmt::format("{}/{}/{}", dir, digest.substr(0, 2), digest);
}

Error file_error(int err, const std::string& what) {
  if (err == ENOSPC || err == EDQUOT) {
    return make_error(Code::kResourceExhausted, "disk_full", "{}: no space left; free space or delete endpoints", what);
  }
  return errno_error(err, what);
}

Error not_found(std::string_view digest) {
  return make_error(Code::kNotFound, "package_not_found", "there is no package {}; upload it again", digest);
}

Status make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return Ok{};
  return file_error(errno, "create folder " + path);
}

Status sync_folder(const std::string& path) {
  Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || ::fsync(folder.get()) != 0) return file_error(errno, "sync folder " + path);
  return Ok{};
}

Result<Fd> open_package(const std::string& dir, std::string_view digest) {
  MAYFLY_TRY(check_digest(digest));
  Fd file(::open(path_of(dir, digest).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file.valid()) return file;
  if (errno == ENOENT) return not_found(digest);
  return file_error(errno, "open package " + std::string(digest));
}

Status verify_package(const std::string& dir, std::string_view digest) {
  auto file = open_package(dir, digest);
  if (!file.ok()) return std::move(file.error());
  Sha256 hash;
  std::vector<char> buffer(kReadBytes);
  for (;;) {
    const ssize_t n = ::read(file->get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error(errno, "read package " + std::string(digest));
    if (n == 0) break;
    hash.update(std::span(buffer).first(static_cast<std::size_t>(n)));
  }
  if (const std::string found = hash.hex_digest(); found != digest) {
    return make_error(Code::kDataLoss, "package_corrupt",
                      "package {} on disk has the hash {}: the file was damaged; deploy the model again to replace it",
                      digest, found);
  }
  return Ok{};
}

class FileUpload final : public PackageStore::Upload {
 public:
  FileUpload(std::string dir, std::string temp, Fd file, std::uint64_t max_bytes)
      : dir_(std::move(dir)), temp_(std::move(temp)), file_(std::move(file)), max_bytes_(max_bytes) {}
  FileUpload(const FileUpload&) = delete;
  FileUpload& operator=(const FileUpload&) = delete;
  ~FileUpload() override { discard(); }

  Status write(std::span<const char> bytes) override {
    if (failed_) return *failed_;
    Status written = append(bytes);
    // After a part of a write the file and the hash differ: nothing but dropping the upload is right.
    if (!written.ok()) {
      failed_ = written.error();
      discard();
    }
    return written;
  }

  Result<std::string> finish() override {
    if (failed_) return *failed_;
    failed_ = make_error(Code::kFailedPrecondition, "upload_finished", "this upload was finished before");
    auto digest = publish();
    discard();
    return digest;
  }

  std::string digest() override {
    if (digest_.empty()) digest_ = hash_.hex_digest();
    return digest_;
  }

  std::uint64_t bytes() const override { return bytes_; }
  int file() const override { return file_.get(); }
  void arrived(std::string digest, std::uint64_t bytes) override {
    digest_ = std::move(digest);
    bytes_ = bytes;
  }

 private:
  Status append(std::span<const char> bytes) {
    if (bytes.size() > max_bytes_ - bytes_) {
      return make_error(Code::kResourceExhausted, "payload_too_large",
                        "the package is larger than the limit of {} bytes", max_bytes_);
    }
    hash_.update(bytes);
    bytes_ += bytes.size();
    while (!bytes.empty()) {
      const ssize_t n = ::write(file_.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return file_error(errno, "write package");
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return Ok{};
  }

  Result<std::string> publish() {
    const std::string digest = this->digest();
    const std::string folder = folder_of(dir_, digest);
    MAYFLY_TRY(make_folder(folder));
    MAYFLY_TRY(sync_folder(dir_));
    // Content that is already there and whole stays: instances have it mapped, and a second copy would cost memory
    // twice.
    if (!verify_package(dir_, digest).ok()) {
      if (::fchmod(file_.get(), 0444) != 0 || ::fsync(file_.get()) != 0)
        return file_error(errno, "sync package " + digest);
      if (::rename(temp_.c_str(), path_of(dir_, digest).c_str()) != 0)
        return file_error(errno, "name package " + digest);
      temp_.clear();
    }
    MAYFLY_TRY(sync_folder(folder));
    return digest;
  }

  void discard() {
    file_.reset();
    if (!temp_.empty()) ::unlink(temp_.c_str());
    temp_.clear();
  }

  const std::string dir_;
  std::string temp_;  // empty: there is no temporary file any more
  Fd file_;
  const std::uint64_t max_bytes_;
  std::uint64_t bytes_ = 0;
  Sha256 hash_;
  std::string digest_;  // once it was asked for
  std::optional<Error> failed_;
};

class FilePackageStore final : public PackageStore {
 public:
  explicit FilePackageStore(std::string dir) : dir_(std::move(dir)) {}

  Result<std::unique_ptr<Upload>> begin(std::uint64_t max_bytes) override {
    std::string temp = fmt::format("{}/tmp/{}", dir_, random_token(22));
    Fd file(::open(temp.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid()) return file_error(errno, "create " + temp);
    return std::unique_ptr<Upload>(std::make_unique<FileUpload>(dir_, std::move(temp), std::move(file), max_bytes));
  }

  Result<Fd> open(std::string_view digest) override { return open_package(dir_, digest); }
  Status verify(std::string_view digest) override { return verify_package(dir_, digest); }

  Status remove(std::string_view digest) override {
    MAYFLY_TRY(check_digest(digest));
    if (::unlink(path_of(dir_, digest).c_str()) != 0) {
      if (errno == ENOENT) return not_found(digest);
      return file_error(errno, "remove package " + std::string(digest));
    }
    return sync_folder(folder_of(dir_, digest));
  }

  Result<std::vector<std::string>> list() override {
    auto found = sizes();
    if (!found.ok()) return std::move(found.error());
    std::vector<std::string> digests;
    for (auto& [digest, bytes] : found->packages) digests.push_back(std::move(digest));
    return digests;
  }

  Result<Sizes> sizes() override {
    std::error_code failure;
    Sizes out;
    // recursive_directory_iterator does not follow links; what is not named like a package is not ours to report.
    auto it = std::filesystem::recursive_directory_iterator(dir_, failure);
    for (; !failure && it != std::filesystem::recursive_directory_iterator(); it.increment(failure)) {
      if (it.depth() != 1) continue;
      const std::string name = it->path().filename().string(), folder = it->path().parent_path().filename();
      std::error_code gone;  // uploads end at any time
      const std::uint64_t bytes = it->file_size(gone);
      if (gone) continue;
      if (folder == "tmp") out.temporary += bytes;
      if (is_digest(name) && folder == name.substr(0, 2)) out.packages.emplace_back(name, bytes);
    }
    if (failure) return file_error(failure.value(), "list packages in " + dir_);
    std::sort(out.packages.begin(), out.packages.end());
    return out;
  }

 private:
  const std::string dir_;
};

}  // namespace

Result<std::unique_ptr<PackageStore>> open_package_store(const std::string& dir) {
  const std::string temp = dir + "/tmp";
  std::error_code failure;
  std::filesystem::remove_all(temp, failure);
  if (!failure) std::filesystem::create_directories(dir, failure);
  if (failure) return file_error(failure.value(), "prepare package folder " + dir);
  MAYFLY_TRY(make_folder(temp));
  return std::unique_ptr<PackageStore>(std::make_unique<FilePackageStore>(dir));
}

}  // namespace mayfly
