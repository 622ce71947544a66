#include "control/disk_quota.h"

#include <algorithm>

namespace mayfly {
namespace {

constexpr std::uint64_t kHorizonNs = 3600ULL * 1'000'000'000;  // what is not wanted within it is worth little
constexpr std::uint64_t kFirstByteNs = 50'000'000;             // of a fetch, however short
constexpr double kNeededWithArtefact = 0.1;  // a package is read only where its artefact is built anew
constexpr int kRounds = 3;                   // what was chosen may have come into use meanwhile

std::string mib(std::uint64_t bytes) {
  return bytes >= 10ULL << 20 ? fmt::format("{} MiB", bytes >> 20) : fmt::format("{} bytes", bytes);
}

}  // namespace

policy::Resident artefact_resident(std::uint64_t bytes, std::uint64_t build_ns, double use, bool package_here,
                                   std::uint64_t fetch_ns) {
  policy::Resident r;
  r.own_bytes = bytes;
  r.restart_ns = expected_build_ns(build_ns) + (package_here ? 0 : kFirstByteNs + fetch_ns);
  r.use = use;
  return r;
}

policy::Resident package_resident(std::uint64_t bytes, std::uint64_t fetch_ns, double use, bool artefact_here) {
  policy::Resident r;
  r.own_bytes = bytes;
  r.restart_ns = kFirstByteNs + fetch_ns;
  r.use = artefact_here ? use * kNeededWithArtefact : use;
  return r;
}

// Everything that may be dropped or not; files[i] is what residents[i] is.
struct DiskQuota::Choice {
  struct File {
    std::string package;
    bool artefact = false;
    bool ask = false;  // a package of which nobody has asked yet whether the bucket has it
  };
  std::vector<policy::Resident> residents;
  std::vector<File> files;
};

DiskQuota::Choice DiskQuota::candidates(const DiskFiles& disk) const {
  Choice c;
  const auto uses = node_->artefact_uses(kHorizonNs);
  const double never = policy::use_within(kHorizonNs, 0, now_ns());
  const auto fetch_ns = [this](std::uint64_t bytes) {
    return remote_ == nullptr ? 0 : remote_->fetch_ns(bytes);  // without one, what can't be rebuilt here stays
  };
  for (const auto& [package, file] : artefacts_.files()) {
    const auto artefact = disk.artefacts.find(file->path);
    const auto local = disk.packages.find(package);
    const bool artefact_here = artefact != disk.artefacts.end(), package_here = local != disk.packages.end();
    const bool remote = remote_ != nullptr && remote_->known(package);
    const auto use = uses.find(file->path);
    const double wanted = use == uses.end() ? never : use->second.use;
    const bool busy = artefacts_.held(package) || (use != uses.end() && use->second.in_use);
    if (artefact_here) {
      c.residents.push_back(artefact_resident(artefact->second, file->build_ns, wanted, package_here,
                                              fetch_ns(package_here ? local->second : artefact->second)));
      c.residents.back().in_use = busy || (!package_here && !remote);  // there would be nothing to build it from
      c.files.push_back({package, true, false});
    }
    if (package_here && remote_ != nullptr) {
      c.residents.push_back(package_resident(local->second, fetch_ns(local->second), wanted, artefact_here));
      c.residents.back().in_use = artefacts_.held(package) || !remote;
      c.files.push_back({package, false, !remote && !artefacts_.held(package)});
    }
  }
  return c;
}

Task<void> DiskQuota::count(DiskFiles& files) {
  files = co_await artefacts_.count();
  use_.packages = use_.artefacts = 0;
  for (const auto& [package, bytes] : files.packages) use_.packages += bytes;
  for (const auto& [path, bytes] : files.artefacts) use_.artefacts += bytes;
  use_.temporary = files.temporary;
}

// What the bucket has may go. Asked only where nothing else is left to go.
Task<void> DiskQuota::ask_remote(const Choice& c) {
  for (std::size_t i = 0; i < c.files.size(); ++i) {
    if (!c.files[i].ask) continue;
    auto length = co_await remote_->length(c.files[i].package);
    if (length.ok() && *length == c.residents[i].own_bytes) remote_->note(c.files[i].package);
    if (!length.ok() && length.error().code != Code::kNotFound) co_return;  // it can't be reached
  }
}

Error DiskQuota::exceeded(std::uint64_t need) const {
  return make_error(
      Code::kResourceExhausted, "disk_quota_exceeded",
      "{} more would not fit on the disk: packages and artefacts, those under way included, take {} of the "
      "quota of {}, and too little of it may go; delete endpoints, wait until some are idle, or raise "
      "--disk-quota",
      mib(need), mib(use_.used()), mib(use_.quota));
}

Task<Status> DiskQuota::make_room(std::uint64_t need, std::uint64_t expected) {
  auto turn = co_await turns_.take("disk");
  bool asked = false;
  for (int round = 0; round < kRounds; ++round) {
    DiskFiles disk;
    co_await count(disk);
    const std::uint64_t used = use_.used();
    if (use_.quota == 0 || used + need + expected <= use_.quota) co_return Ok{};
    Choice c = candidates(disk);
    const auto choose = [&](std::uint64_t bytes) {
      return bytes <= use_.quota ? std::vector<std::size_t>()
                                 : policy::choose_evictions(c.residents, {}, bytes - use_.quota);
    };
    if (choose(used + need + expected).empty()) {
      if (remote_ == nullptr || std::exchange(asked, true)) co_return exceeded(need + expected);
      co_await ask_remote(c);
      --round;
      continue;
    }
    const auto chosen = choose(used + need);
    bool all = true;
    for (const std::size_t i : chosen) {
      const bool dropped = co_await drop(c, i);
      all = all && dropped;
    }
    if (all) co_return Ok{};
  }
  co_return exceeded(need + expected);
}

Task<bool> DiskQuota::drop(const Choice& c, std::size_t i) {
  const Choice::File& f = c.files[i];
  const std::uint64_t bytes = c.residents[i].own_bytes;
  const auto file = artefacts_.files().find(f.package);
  if (file == artefacts_.files().end()) co_return true;  // its last version has gone meanwhile
  const std::string path = file->second->path;
  if (f.artefact) {
    const auto uses = node_->artefact_uses(kHorizonNs);
    if (const auto use = uses.find(path); use != uses.end() && use->second.in_use) co_return false;
  }
  const bool gone =
      f.artefact ? co_await artefacts_.drop_artefact(f.package) : co_await artefacts_.drop_package(f.package);
  if (!gone) co_return false;
  ++use_.dropped;
  std::uint64_t& kind = f.artefact ? use_.artefacts : use_.packages;
  kind -= std::min(kind, bytes);
  if (f.artefact) node_->forget_artefact(path);
  const std::string why = fmt::format(
      "{}: the disk quota of {} was in use, and of what could go this was worth least ({} ms to have it again)",
      mib(bytes), mib(use_.quota), c.residents[i].restart_ns / 1'000'000);
  artefacts_.note_dropped(f.package, f.artefact, why);
  log_.event("", fmt::format(R"({{"time":"{}","event":"{}_dropped","package":"{}","bytes":{},"again_ms":{}}})",
                             Log::timestamp(), f.artefact ? "artefact" : "package", f.package, bytes,
                             c.residents[i].restart_ns / 1'000'000));
  co_return true;
}

}  // namespace mayfly
