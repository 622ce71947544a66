#include "app/tls_files.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/fd.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxPemBytes = 1024 * 1024;

Error unusable(const std::string& file, std::string_view what) {
  return make_error(Code::kFailedPrecondition, "tls_unusable", "cannot use {} for TLS: {}", file, what);
}

Result<std::string> read_pem(const std::string& given, const std::string& path, struct stat& seen) {
  seen = {};
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return unusable(given, std::strerror(errno));
  if (fstat(fd.get(), &seen) != 0 || !S_ISREG(seen.st_mode)) return unusable(given, "it is not a file");
  std::string text(kMaxPemBytes + 1, '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t n = read(fd.get(), text.data() + have, text.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return unusable(given, std::strerror(errno));
    if (n == 0) break;
    have += static_cast<std::size_t>(n);
  }
  if (have > kMaxPemBytes) return unusable(given, fmt::format("it is larger than the limit of {} bytes", kMaxPemBytes));
  text.resize(have);
  return text;
}

bool same(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec &&
         a.st_ctim.tv_sec == b.st_ctim.tv_sec && a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

}  // namespace

Status TlsFiles::place(File& file, const char* mount, std::vector<ReadOnlyFolder>& folders) {
  namespace fs = std::filesystem;
  std::error_code ec;
  const fs::path path(file.given);
  const fs::path folder = fs::canonical(path.has_parent_path() ? path.parent_path() : fs::path("."), ec);
  if (ec) return unusable(file.given, ec.message());
  if (folder == folder.root_path())
    return unusable(file.given, "it lies in the root folder, all of which the server would see; put it into its own");
  file.path = file.given;
  for (const ReadOnlyFolder& f : folders) {
    if (f.from == folder) mount = nullptr, file.confined_path = f.to + '/' + path.filename().string();
  }
  if (mount == nullptr) return Ok{};
  folders.push_back({folder.string(), mount});
  file.confined_path = std::string(mount) + '/' + path.filename().string();
  return Ok{};
}

Result<std::unique_ptr<TlsFiles>> TlsFiles::open(const std::string& certificate, const std::string& key) {
  auto self = std::make_unique<TlsFiles>();
  self->certificate_.given = certificate;
  self->key_.given = key;
  MAYFLY_TRY(place(self->certificate_, "/tls-cert", self->folders_));
  MAYFLY_TRY(place(self->key_, "/tls-key", self->folders_));
  MAYFLY_TRY(self->load());
  return self;
}

void TlsFiles::confined() {
  for (File* f : {&certificate_, &key_}) f->path = f->confined_path;
}

bool TlsFiles::changed() const {
  for (const File* f : {&certificate_, &key_}) {
    struct stat now{};
    if (stat(f->path.c_str(), &now) != 0) now = {};
    if (!same(now, f->seen)) return true;
  }
  return false;
}

Status TlsFiles::load() {
  // Both are looked at, also when one can't be read, so that changed() does not speak of the same ones again.
  auto certificate = read_pem(certificate_.given, certificate_.path, certificate_.seen);
  auto key = read_pem(key_.given, key_.path, key_.seen);
  for (File* f : {&certificate_, &key_}) {
    if (f->seen.st_ino == 0 && stat(f->path.c_str(), &f->seen) != 0) f->seen = {};
  }
  if (!certificate.ok()) return std::move(certificate.error());
  if (!key.ok()) return std::move(key.error());
  auto made = TlsContext::create(*certificate, *key, fmt::format("{} with {}", certificate_.given, key_.given));
  if (!made.ok()) return std::move(made.error());
  context_ = std::move(*made);
  return Ok{};
}

}  // namespace mayfly
