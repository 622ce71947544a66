#include "sandbox/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace mayfly {
namespace {

constexpr char kMount[] = "/sys/fs/cgroup";
constexpr char kPrefix[] = "mayfly-";
namespace fs = std::filesystem;

std::string read_text(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

Status write_text(const std::string& path, const std::string& text) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || write(fd.get(), text.data(), text.size()) < 0) {
    return errno_error(errno, fmt::format("write \"{}\" to {}", text, path));
  }
  return Ok{};
}

std::uint64_t read_number(const std::string& path, std::string_view key) {
  const std::string text = read_text(path);
  std::size_t at = key.empty() ? 0 : text.find(key);
  if (at == std::string::npos) return 0;
  at += key.size();
  while (at < text.size() && text[at] == ' ') ++at;
  std::uint64_t n = 0;
  std::from_chars(text.data() + at, text.data() + text.size(), n);
  return n;
}

bool is_controller(const std::string& dir, std::string_view name) {
  return fs::path(dir).parent_path().parent_path().filename() == name;
}

void end_processes(const std::string& dir) {
  std::ifstream in(dir + "/cgroup.procs");
  pid_t pid = 0;
  while (in >> pid) {
    if (pid > 1 && pid != getpid()) kill(pid, SIGKILL);
  }
}

void remove_tree(const std::string& dir) {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(dir, ec)) {
    if (!entry.is_directory(ec)) continue;
    end_processes(entry.path());
    rmdir(entry.path().c_str());
  }
  rmdir(dir.c_str());
}

}  // namespace

CgroupHost detect_cgroups() {
  CgroupHost host;
  const std::string controllers = read_text(std::string(kMount) + "/cgroup.controllers");
  if (!controllers.empty()) {
    host.version = 2;
    host.roots = {kMount};
    for (const char* c : {"memory", "cpu", "pids"}) {
      if (controllers.find(c) == std::string::npos) host.missing.emplace_back(c);
    }
    return host;
  }
  for (const char* c : {"memory", "cpu", "pids"}) {
    const std::string root = fmt::format("{}/{}", kMount, c);
    struct stat st{};
    if (stat((root + "/cgroup.procs").c_str(), &st) == 0)
      host.roots.push_back(root);
    else
      host.missing.emplace_back(c);
  }
  host.version = host.roots.empty() ? 0 : 1;
  return host;
}

Result<Cgroup> Cgroup::create(const CgroupHost& host, const std::string& parent, const std::string& name) {
  Cgroup group;
  group.version_ = host.version;
  for (const std::string& root : host.roots) {
    std::string dir = fmt::format("{}/{}/{}", root, parent, name);
    if (mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST)
      return errno_error(errno, fmt::format("make the cgroup {}", dir));
    group.dirs_.push_back(dir);
    Fd procs(open((dir + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (!procs.valid()) return errno_error(errno, fmt::format("open {}/cgroup.procs", dir));
    group.procs_.push_back(std::move(procs));
  }
  return group;
}

Status Cgroup::set(const CgroupLimits& l) {
  constexpr std::uint64_t kPeriodUs = 100'000;
  const std::uint64_t quota = l.cpu_milli * kPeriodUs / 1000;
  for (const std::string& dir : dirs_) {
    if (version_ == 2) {
      MAYFLY_TRY(write_text(dir + "/memory.max", std::to_string(l.memory_bytes)));
      write_text(dir + "/memory.swap.max", "0").ok();  // absent where the host has no swap accounting
      MAYFLY_TRY(write_text(dir + "/cpu.max", fmt::format("{} {}", quota, kPeriodUs)));
      MAYFLY_TRY(write_text(dir + "/pids.max", std::to_string(l.pids)));
    } else if (is_controller(dir, "memory")) {
      MAYFLY_TRY(write_text(dir + "/memory.limit_in_bytes", std::to_string(l.memory_bytes)));
      write_text(dir + "/memory.swappiness", "0").ok();
    } else if (is_controller(dir, "cpu")) {
      MAYFLY_TRY(write_text(dir + "/cpu.cfs_quota_us", std::to_string(quota)));
    } else {
      MAYFLY_TRY(write_text(dir + "/pids.max", std::to_string(l.pids)));
    }
  }
  return Ok{};
}

void Cgroup::set_weight(std::uint32_t weight) const {
  for (const std::string& dir : dirs_) {
    if (version_ == 2)
      write_text(dir + "/cpu.weight", std::to_string(weight)).ok();
    else if (is_controller(dir, "cpu"))
      write_text(dir + "/cpu.shares", std::to_string(weight * 1024 / 100)).ok();
  }
}

std::vector<int> Cgroup::procs_fds() const {
  std::vector<int> out;
  for (const Fd& fd : procs_) out.push_back(fd.get());
  return out;
}

std::uint64_t Cgroup::oom_kills() const {
  for (const std::string& dir : dirs_) {
    if (version_ == 2) return read_number(dir + "/memory.events", "oom_kill");
    if (is_controller(dir, "memory")) return read_number(dir + "/memory.oom_control", "oom_kill ");
  }
  return 0;
}

std::uint64_t Cgroup::peak_bytes() const {
  for (const std::string& dir : dirs_) {
    if (version_ == 2) return read_number(dir + "/memory.peak", "");
    if (is_controller(dir, "memory")) return read_number(dir + "/memory.max_usage_in_bytes", "");
  }
  return 0;
}

std::string Cgroup::memory_file() const {
  for (const std::string& dir : dirs_) {
    const std::string inside = "/cgroup" + dir.substr(sizeof kMount - 1);
    if (version_ == 2) return inside + "/memory.current";
    if (is_controller(dir, "memory")) return inside + "/memory.usage_in_bytes";
  }
  return "";
}

void Cgroup::remove() {
  procs_.clear();
  for (const std::string& dir : dirs_) rmdir(dir.c_str());
  dirs_.clear();
}

Status prepare_cgroup_parent(const CgroupHost& host, const std::string& parent) {
  for (const std::string& root : host.roots) {
    const std::string dir = fmt::format("{}/{}", root, parent);
    if (host.version == 2) MAYFLY_TRY(write_text(root + "/cgroup.subtree_control", "+memory +cpu +pids"));
    if (mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST)
      return errno_error(errno, fmt::format("make the cgroup {}", dir));
    if (host.version == 2) MAYFLY_TRY(write_text(dir + "/cgroup.subtree_control", "+memory +cpu +pids"));
  }
  return Ok{};
}

void remove_cgroup_parent(const CgroupHost& host, const std::string& parent) {
  for (const std::string& root : host.roots) remove_tree(fmt::format("{}/{}", root, parent));
}

void sweep_orphaned_cgroups(const CgroupHost& host) {
  for (const std::string& root : host.roots) {
    std::error_code ec;
    for (const auto& entry : fs::directory_iterator(root, ec)) {
      const std::string name = entry.path().filename();
      if (name.rfind(kPrefix, 0) != 0) continue;
      const pid_t owner = static_cast<pid_t>(std::strtol(name.c_str() + std::strlen(kPrefix), nullptr, 10));
      if (owner > 1 && kill(owner, 0) != 0 && errno == ESRCH) remove_tree(entry.path());
    }
  }
}

}  // namespace mayfly
