#include "control/artefacts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "control/remote_packages.h"
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

Error file_error(int err, const std::string& what) {
  if (err != ENOSPC && err != EDQUOT) return errno_error(err, what);
  return make_error(Code::kResourceExhausted, "disk_full", "{}: no space left; free space or delete endpoints", what);
}

// Less is left than one more block of the file's.
bool disk_is_full(int fd) {
  struct statvfs s{};
  return fstatvfs(fd, &s) == 0 && s.f_blocks > 0 && s.f_bavail < 16;
}

Status publish(int fd, const std::string& from, const std::string& to, const std::string& dir) {
  if (fsync(fd) != 0 || rename(from.c_str(), to.c_str()) != 0) return file_error(errno, fmt::format("write {}", to));
  Fd folder(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || fsync(folder.get()) != 0) return file_error(errno, fmt::format("sync {}", dir));
  return Ok{};
}

std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

std::string Artefacts::path(std::string_view package) const {
  static const std::string cpu = cpu_type();
  const std::string key =
      sha256_hex(fmt::format("{} {} {} {}", package, cpu, options_.runtime_version, kArtefactFormat));
  return fmt::format("{}/artefacts/{}.ort", options_.data_dir, key);
}

std::shared_ptr<ArtefactFile> Artefacts::file_of(const std::string& package) {
  auto& file = files_[package];
  if (file) return file;
  file = std::make_shared<ArtefactFile>();
  file->path = path(package);
  if (const auto row = noted_.extract(name_of(file->path))) {
    file->bytes = row.mapped().bytes;
    file->build_ns = row.mapped().build_ms * 1'000'000;
  }
  return file;
}

Status Artefacts::load() {
  auto rows = store_.artefacts();
  if (!rows.ok()) return std::move(rows.error());
  for (ArtefactRow& row : *rows) noted_.insert_or_assign(row.file, row);
  return Ok{};
}

Status Artefacts::note(const std::string& package, std::uint64_t bytes, std::uint64_t build_ns) {
  return store_.note_artefact({name_of(path(package)), bytes, std::max<std::uint64_t>(1, build_ns / 1'000'000)});
}

Task<Status> Artefacts::make_room(std::uint64_t need, std::uint64_t expected) {
  if (room_ == nullptr || !room_->limited()) co_return Ok{};
  co_return co_await room_->make_room(need, expected);
}

Task<Status> Artefacts::fetch(std::string package) {
  auto ask = [this, &package] { return store_.package_bytes(package); };
  auto bytes = co_await blocking_.run(ask);
  if (!bytes.ok()) co_return bytes.error();
  if (auto st = co_await make_room(*bytes, file_of(package)->bytes); !st.ok()) co_return st.error();
  Status come = co_await remote_->fetch(package);
  if (come.ok()) file_of(package)->package_dropped.clear();
  co_await recount();
  co_return come;
}

// What had a temporary name has its own now, or is gone.
Task<void> Artefacts::recount() {
  if (room_ != nullptr) static_cast<void>((co_await room_->make_room(0, 0)).ok());
}

// One that is here and damaged is replaced by the bucket's.
Task<Result<Artefacts::Model>> Artefacts::model(std::string package) {
  Model out;
  auto check = [this, &package] { return packages_.verify(package); };
  auto whole = co_await blocking_.run(check);
  const bool replaceable =
      !whole.ok() && (whole.error().reason == "package_not_found" || whole.error().reason == "package_corrupt");
  if (replaceable && remote_ != nullptr) {
    out.fetched = true;
    whole = co_await fetch(package);
  }
  if (!whole.ok()) co_return whole.error();
  auto file = packages_.open(package);
  if (!file.ok()) co_return file.error();
  out.file = std::move(*file);
  co_return out;
}

Task<Result<CompileReport>> Artefacts::build(std::string package) {
  auto found = co_await model(package);
  if (!found.ok()) co_return found.error();
  co_return co_await build_from(std::move(package), std::move(*found));
}

Task<Result<CompileReport>> Artefacts::build_from(std::string package, Model model) {
  auto bytes = size_of(model.file.get());
  if (!bytes.ok()) co_return bytes.error();
  // Whether it can fit is asked before the work; what goes for it goes when its length is known.
  const std::uint64_t expected = file_of(package)->bytes;
  if (auto st = co_await make_room(0, expected != 0 ? expected : *bytes); !st.ok()) co_return st.error();
  const std::string dir = options_.data_dir + "/artefacts";
  const std::string temp = fmt::format("{}/tmp-{}", dir, random_token(16));
  Fd out(::open(temp.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (!out.valid()) co_return file_error(errno, fmt::format("make {}", temp));
  const std::uint64_t since = now_ns();
  ++builds_;
  auto report = co_await compile_model(launcher_, model.file.get(), *bytes, out.get(), CompileLimits{});
  const std::uint64_t took = now_ns() - since;
  // The job that fills the disk can only say that it could not write.
  if (!report.ok() && disk_is_full(out.get()))
    report = file_error(ENOSPC, fmt::format("build the artefact of package {}", package));
  Result<std::uint64_t> length = std::uint64_t{0};
  if (report.ok() && !(length = size_of(out.get())).ok()) report = length.error();
  if (report.ok()) {
    if (auto st = co_await make_room(0, 0); !st.ok()) report = st.error();  // it lies in the folder, and counts
  }
  if (report.ok()) {
    auto finish = [&]() -> Status {
      MAYFLY_TRY(note(package, *length, took));
      return publish(out.get(), temp, path(package), dir);
    };
    if (auto st = co_await blocking_.run(finish); !st.ok()) report = st.error();
  }
  if (!report.ok()) {
    unlink(temp.c_str());
  } else {
    const auto file = file_of(package);
    file->bytes = *length;
    file->build_ns = took;
    file->dropped.clear();
    co_await recount();
  }
  co_return report;
}

Task<Result<Supplied>> Artefacts::restore(std::string package) {
  auto found = co_await model(package);
  if (!found.ok()) co_return found.error();
  Supplied out;
  out.fetched = found->fetched;
  auto report = co_await build_from(package, std::move(*found));
  if (!report.ok()) co_return report.error();
  const auto file = file_of(package);
  out.bytes = file->bytes;
  out.build_ns = file->build_ns;
  co_return out;
}

std::optional<CompileReport> Artefacts::built(const std::string& package, std::string_view report_json) {
  auto report = read_stored_report(report_json);
  struct stat st{};
  if (!report.ok() || stat(path(package).c_str(), &st) != 0) return std::nullopt;
  const std::uint64_t noted = file_of(package)->bytes;
  if (static_cast<std::uint64_t>(st.st_size) != (noted != 0 ? noted : report->artefact_bytes)) return std::nullopt;
  return std::move(*report);
}

Task<Result<std::string>> Artefacts::accept(PackageStore::Upload& upload, std::string tenant) {
  const std::string package = upload.digest();
  // The upload lies in the folder, and counts; its artefact will be about as long.
  if (auto st = co_await make_room(0, package_here(package) ? 0 : upload.bytes()); !st.ok()) co_return st.error();
  auto turn = co_await turns_.take(package);
  // Charged first: what does not fit is never given its name.
  auto finish = [this, &upload, &package, &tenant]() -> Result<std::string> {
    MAYFLY_TRY(store_.note_package(package, tenant, upload.bytes(), options_.tenant_quota_bytes));
    auto finished = upload.finish();
    if (!finished.ok() && !packages_.open(package).ok()) static_cast<void>(store_.forget_package(package).ok());
    return finished;
  };
  auto finished = co_await blocking_.run(finish);
  if (!finished.ok()) co_return finished;
  Hold hold(this, held_.insert(package));
  turn.give_back();
  Status stored = Ok{};
  if (remote_ != nullptr) stored = co_await remote_->secure(package);
  if (stored.ok()) {
    uploads_.add(package, now_ns());
    co_await recount();
    co_return finished;
  }
  hold.release();
  std::vector<std::string> mine;
  mine.push_back(package);
  co_await collect(std::move(mine));
  co_return stored.error();
}

Task<Status> Artefacts::ready(std::string package, std::string tenant) {
  if (remote_ == nullptr) co_return Ok{};
  const auto here = packages_.open(package);
  if (here.ok()) co_return co_await remote_->secure(std::move(package));
  if (here.error().reason != "package_not_found") co_return here.error();
  auto length = co_await remote_->length(package);
  if (!length.ok()) co_return length.error();
  remote_->note(package);
  auto charge = [this, &package, &tenant, &length] {
    return store_.note_package(package, tenant, *length, options_.tenant_quota_bytes);
  };
  co_return co_await blocking_.run(charge);
}

Task<DiskFiles> Artefacts::count() {
  auto look = [this] { return count_files(); };
  co_return co_await blocking_.run(look);
}

DiskFiles Artefacts::count_files() {
  namespace fs = std::filesystem;
  DiskFiles out;
  if (auto stored = packages_.sizes(); stored.ok()) {
    for (auto& [package, bytes] : stored->packages) out.packages.emplace(std::move(package), bytes);
    out.temporary = stored->temporary;
  }
  std::error_code failure;
  auto it = fs::directory_iterator(options_.data_dir + "/artefacts", failure);
  for (; !failure && it != fs::directory_iterator(); it.increment(failure)) {
    std::error_code gone;
    const std::uint64_t bytes = it->file_size(gone);
    if (gone) continue;
    if (it->path().filename().string().starts_with("tmp-"))
      out.temporary += bytes;
    else
      out.artefacts.emplace(it->path().string(), bytes);
  }
  return out;
}

Task<bool> Artefacts::drop_artefact(std::string package) {
  auto turn = co_await turns_.take(package);
  if (held_.contains(package)) co_return false;
  auto drop = [this, &package] {
    unlink(path(package).c_str());
    return Ok{};
  };
  co_await blocking_.run(drop);
  co_return true;
}

Task<bool> Artefacts::drop_package(std::string package) {
  auto turn = co_await turns_.take(package);
  if (held_.contains(package) || remote_ == nullptr || !remote_->known(package)) co_return false;
  auto drop = [this, &package] { return packages_.remove(package); };
  static_cast<void>((co_await blocking_.run(drop)).ok());  // not found: it is gone
  co_return true;
}

void Artefacts::note_dropped(const std::string& package, bool artefact, std::string why) {
  const auto at = files_.find(package);
  if (at == files_.end()) return;
  (artefact ? at->second->dropped : at->second->package_dropped) = std::move(why);
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

Task<Artefacts::Hold> Artefacts::pin(std::string package) {
  auto turn = co_await turns_.take(package);
  co_return Hold(this, held_.insert(std::move(package)));
}

Task<Artefacts::Hold> Artefacts::hold(std::string package) {
  auto turn = co_await turns_.take(package);
  uploads_.take(package);
  co_return Hold(this, held_.insert(std::move(package)));
}

Task<void> Artefacts::collect(std::vector<std::string> packages) {
  for (std::string& package : uploads_.take_expired(now_ns())) packages.push_back(std::move(package));
  bool gone = false;
  for (const std::string& package : packages) {
    auto turn = co_await turns_.take(package);
    if (held_.contains(package) || uploads_.contains(package)) continue;
    auto drop = [this, &package] { return drop_unless_referred(package); };
    if (!co_await blocking_.run(drop)) continue;
    files_.erase(package);
    gone = true;
    if (remote_ != nullptr) remote_->forget(package);
  }
  if (gone) co_await recount();
}

bool Artefacts::drop_unless_referred(const std::string& package) {
  auto used = store_.package_in_use(package);
  if (!used.ok() || *used) return false;
  static_cast<void>(packages_.remove(package).ok());  // open descriptors of running instances stay valid
  static_cast<void>(store_.forget_package(package).ok());
  static_cast<void>(store_.forget_artefact(name_of(path(package))).ok());
  unlink(path(package).c_str());
  return true;
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
  if (auto noted = store_.artefacts(); noted.ok()) {
    std::unordered_set<std::string> names;
    for (const std::string& artefact : artefacts) names.insert(name_of(artefact));
    for (const ArtefactRow& row : *noted) {
      if (!names.contains(row.file)) static_cast<void>(store_.forget_artefact(row.file).ok());
    }
  }
  return swept;
}

}  // namespace mayfly
