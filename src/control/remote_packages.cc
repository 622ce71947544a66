#include "control/remote_packages.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace mayfly {

Task<Status> RemotePackages::reach() {
  auto ask = [this] { return bucket_.reach(); };
  co_return co_await pool_.run(ask);
}

Task<Status> RemotePackages::secure(std::string package) {
  if (known(package)) co_return Ok{};
  auto work = [this, &package] { return send(package); };
  co_return co_await sending_.run(package, work);
}

Task<Status> RemotePackages::send(const std::string& package) {
  const std::uint64_t since = now_ns();
  std::uint64_t bytes = 0;
  auto put = [this, &package, &bytes]() -> Result<bool> {
    auto file = packages_.open(package);
    if (!file.ok()) return std::move(file.error());
    struct stat st{};
    if (fstat(file->get(), &st) != 0) return errno_error(errno, "fstat");
    bytes = static_cast<std::uint64_t>(st.st_size);
    return bucket_.put(package, file->get(), bytes);
  };
  auto sent = co_await pool_.run(put);
  if (!sent.ok()) co_return sent.error();
  if (*sent) log_moved("package_stored", package, bytes, since, nullptr);
  note(package);
  co_return Ok{};
}

Task<Status> RemotePackages::fetch(std::string package) {
  auto work = [this, &package] { return bring(package); };
  co_return co_await coming_.run(package, work);
}

Task<Status> RemotePackages::bring(const std::string& package) {
  const std::uint64_t since = now_ns();
  Downloaded got;
  auto get = [this, &package, &got]() -> Status {
    auto upload = packages_.begin(max_bytes_);
    if (!upload.ok()) return std::move(upload.error());
    auto read = bucket_.get(package, (*upload)->file(), max_bytes_);
    if (!read.ok()) return std::move(read.error());
    got = *read;
    (*upload)->arrived(got.sha256, got.bytes);
    auto finished = (*upload)->finish();
    if (!finished.ok()) return std::move(finished.error());
    return Ok{};
  };
  if (auto st = co_await pool_.run(get); !st.ok()) {
    if (st.error().code == Code::kNotFound) forget(package);
    co_return st.error();
  }
  note(package);
  log_moved("package_fetched", package, got.bytes, since, &got);
  const std::uint64_t took = std::max<std::uint64_t>(1, now_ns() - since);
  const auto rate = static_cast<std::uint64_t>(static_cast<double>(got.bytes) * 1e9 / static_cast<double>(took));
  bytes_per_s_ = std::max<std::uint64_t>(1, (bytes_per_s_ * 3 + rate) / 4);
  co_return Ok{};
}

std::uint64_t RemotePackages::fetch_ns(std::uint64_t bytes) const {
  return static_cast<std::uint64_t>(static_cast<double>(bytes) / static_cast<double>(bytes_per_s_) * 1e9);
}

Task<Result<std::uint64_t>> RemotePackages::length(std::string package) {
  auto ask = [this, &package] { return bucket_.length(package); };
  co_return co_await pool_.run(ask);
}

void RemotePackages::log_moved(std::string_view event, const std::string& package, std::uint64_t bytes,
                               std::uint64_t since_ns, const Downloaded* got) {
  std::string line = fmt::format(R"({{"time":"{}","event":"{}","package":"{}","bytes":{},"ms":{})", Log::timestamp(),
                                 event, package, bytes, (now_ns() - since_ns) / 1'000'000);
  if (got != nullptr) line += fmt::format(R"(,"requests":{},"retries":{})", got->requests, got->retries);
  log_.event("", line + '}');
}

}  // namespace mayfly
