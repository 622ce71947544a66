#include "control/artefacts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "crypto/hash.h"

namespace mayfly {
namespace {

constexpr int kArtefactFormat = 1;

// What saved layouts depend on: model and instruction sets of the processor.
std::string cpu_type() {
  std::ifstream in("/proc/cpuinfo");
  std::string line, out;
  while (std::getline(in, line) && !line.empty()) {
    if (line.rfind("model name", 0) == 0 || line.rfind("flags", 0) == 0) out += line;
  }
  return out;
}

Result<std::uint64_t> size_of(int fd) {
  struct stat st{};
  if (fstat(fd, &st) != 0) return errno_error(errno, "fstat");
  return static_cast<std::uint64_t>(st.st_size);
}

Status publish(int fd, const std::string& from, const std::string& to, const std::string& dir) {
  if (fsync(fd) != 0 || rename(from.c_str(), to.c_str()) != 0) return errno_error(errno, fmt::format("write {}", to));
  Fd folder(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || fsync(folder.get()) != 0) return errno_error(errno, fmt::format("sync {}", dir));
  return Ok{};
}

}  // namespace

std::string Artefacts::path(std::string_view package) const {
  static const std::string cpu = cpu_type();
  const std::string key =
      sha256_hex(fmt::format("{} {} {} {}", package, cpu, options_.runtime_version, kArtefactFormat));
  return fmt::format("{}/artefacts/{}.ort", options_.data_dir, key);
}

Task<Result<CompileReport>> Artefacts::build(std::string package) {
  auto model = packages_.open(package);
  if (!model.ok()) co_return model.error();
  auto bytes = size_of(model->get());
  if (!bytes.ok()) co_return bytes.error();
  auto check = [this, &package] { return packages_.verify(package); };
  if (auto st = co_await blocking_.run(check); !st.ok()) co_return st.error();
  const std::string dir = options_.data_dir + "/artefacts";
  const std::string temp = fmt::format("{}/tmp-{}", dir, random_token(16));
  Fd out(::open(temp.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (!out.valid()) co_return errno_error(errno, fmt::format("make {}", temp));
  auto report = co_await compile_model(launcher_, model->get(), *bytes, out.get(), CompileLimits{});
  if (report.ok()) {
    auto finish = [&] { return publish(out.get(), temp, path(package), dir); };
    if (auto st = co_await blocking_.run(finish); !st.ok()) report = st.error();
  }
  if (!report.ok()) unlink(temp.c_str());
  co_return report;
}

std::optional<CompileReport> Artefacts::built(std::string_view package, std::string_view report_json) const {
  auto report = read_stored_report(report_json);
  struct stat st{};
  if (!report.ok() || stat(path(package).c_str(), &st) != 0) return std::nullopt;
  if (static_cast<std::uint64_t>(st.st_size) != report->artefact_bytes) return std::nullopt;
  return std::move(*report);
}

Task<Result<std::string>> Artefacts::accept(PackageStore::Upload& upload, std::string tenant) {
  const std::string package = upload.digest();
  auto turn = co_await turns_.take(package);
  // Charged first: what does not fit is never given its name.
  auto finish = [this, &upload, &package, &tenant]() -> Result<std::string> {
    MAYFLY_TRY(store_.note_package(package, tenant, upload.bytes(), options_.tenant_quota_bytes));
    auto finished = upload.finish();
    if (!finished.ok() && !packages_.open(package).ok()) static_cast<void>(store_.forget_package(package).ok());
    return finished;
  };
  auto finished = co_await blocking_.run(finish);
  if (finished.ok()) uploads_.add(package, now_ns());
  co_return finished;
}

Task<Result<std::uint64_t>> Artefacts::quota_left(std::string tenant) {
  co_await collect({});
  auto ask = [this, &tenant] { return store_.package_bytes_of(tenant); };
  auto used = co_await blocking_.run(ask);
  if (!used.ok()) co_return used.error();
  co_return *used >= options_.tenant_quota_bytes ? 0 : options_.tenant_quota_bytes - *used;
}

Error Artefacts::over_quota(std::string_view tenant) const {
  return make_error(Code::kResourceExhausted, "quota_exceeded",
                    "the packages of tenant \"{}\" fill its quota of {} bytes; delete endpoints", tenant,
                    options_.tenant_quota_bytes);
}

Task<Artefacts::Hold> Artefacts::hold(std::string package) {
  auto turn = co_await turns_.take(package);
  uploads_.take(package);
  co_return Hold(this, held_.insert(std::move(package)));
}

Task<void> Artefacts::collect(std::vector<std::string> packages) {
  for (std::string& package : uploads_.take_expired(now_ns())) packages.push_back(std::move(package));
  for (const std::string& package : packages) {
    auto turn = co_await turns_.take(package);
    if (held_.contains(package) || uploads_.contains(package)) continue;
    auto drop = [this, &package] {
      drop_unless_referred(package);
      return Ok{};
    };
    co_await blocking_.run(drop);
  }
}

void Artefacts::drop_unless_referred(const std::string& package) {
  auto used = store_.package_in_use(package);
  if (!used.ok() || *used) return;
  static_cast<void>(packages_.remove(package).ok());  // open descriptors of running instances stay valid
  static_cast<void>(store_.forget_package(package).ok());
  unlink(path(package).c_str());
}

Task<Artefacts::Swept> Artefacts::sweep(std::unordered_set<std::string> used) {
  auto files = [this, &used] { return sweep_files(used); };
  co_return co_await blocking_.run(files);
}

Artefacts::Swept Artefacts::sweep_files(const std::unordered_set<std::string>& used) {
  namespace fs = std::filesystem;
  Swept swept;
  std::unordered_set<std::string> artefacts;
  for (const std::string& package : used) artefacts.insert(path(package));
  std::set<std::string> found;
  for (auto names : {packages_.list(), store_.packages()}) {  // files without a row, and rows without a file
    if (names.ok()) found.insert(names->begin(), names->end());
  }
  for (const std::string& package : found) {
    if (used.contains(package)) continue;
    static_cast<void>(packages_.remove(package).ok());
    static_cast<void>(store_.forget_package(package).ok());
    ++swept.packages;
  }
  std::error_code failure;
  auto it = fs::directory_iterator(options_.data_dir + "/artefacts", failure);
  for (; !failure && it != fs::directory_iterator(); it.increment(failure)) {
    const std::string file = it->path().string();
    if (!artefacts.contains(file) && unlink(file.c_str()) == 0) ++swept.artefacts;
  }
  return swept;
}

}  // namespace mayfly
