// `mayfly doctor`: what this machine lacks for full isolation and speed, with the cure.
#include <linux/landlock.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "app/app.h"
#include "base/huge_pages.h"
#include "sandbox/cgroup.h"

namespace mayfly {
namespace {

struct Finding {
  std::string what, state, found, cure;  // state: ok, missing, slow
};

bool child_can(int (*action)()) {
  const pid_t pid = fork();
  if (pid == 0) _exit(action() == 0 ? 0 : 1);
  int status = 1;
  return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Finding check_namespaces() {
  const bool all = child_can([] {
    return unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP);
  });
  const bool user = child_can([] { return setgid(65534) != 0 || setuid(65534) != 0 ? 1 : unshare(CLONE_NEWUSER); });
  if (all && user) return {"namespaces", "ok", "mount, pid, network, ipc, uts, cgroup, user", ""};
  if (all)
    return {"namespaces", "missing", "user namespaces are refused to unprivileged ids",
            "sysctl user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1"};
  return {"namespaces", "missing", "can't be made by this user", "run as root"};
}

Finding check_cgroups() {
  const CgroupHost host = detect_cgroups();
  const std::string found = host.version == 0 ? "none" : fmt::format("version {}", host.version);
  if (host.missing.empty()) return {"cgroups", "ok", found + " with memory, cpu, pids", ""};
  return {"cgroups", "missing", fmt::format("{} without {}", found, fmt::join(host.missing, ", ")),
          "enable the controllers (v2: systemd Delegate=yes; v1: mount them under /sys/fs/cgroup)"};
}

Finding check_landlock() {
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi > 0) return {"landlock", "ok", fmt::format("ABI {}", abi), ""};
  return {"landlock", "missing", "not in this kernel",
          "Linux 5.13 or newer, booted with lsm=landlock,…; without it the empty root and seccomp stand alone"};
}

Finding check_seccomp() {
  const bool there = prctl(PR_GET_SECCOMP) >= 0;
  return there ? Finding{"seccomp", "ok", "filter", ""}
               : Finding{"seccomp", "missing", "not in this kernel", "a kernel with CONFIG_SECCOMP_FILTER"};
}

Finding check_runtime() {
  auto path = find_runtime_library("");
  return path.ok() ? Finding{"model runtime", "ok", *path, ""}
                   : Finding{"model runtime", "missing", "not found", path.error().message};
}

Finding check_cpus() {
  const unsigned n = std::thread::hardware_concurrency();
  if (n > 1) return {"processors", "ok", std::to_string(n), ""};
  return {"processors", "slow", "1", "with one core, hand-over between server and instance costs a context switch"};
}

Finding check_user() {
  if (geteuid() == 0)
    return {"user", "ok", "root (the server gives its privileges up; only the launcher keeps them)", ""};
  return {"user", "missing", fmt::format("uid {}", geteuid()), "`mayfly serve` starts as root"};
}

Finding check_swap() {
  std::ifstream in("/proc/swaps");
  std::string line;
  int lines = 0;
  while (std::getline(in, line)) ++lines;
  if (lines <= 1) return {"swap", "ok", "none", ""};
  return {"swap", "slow", "on",
          "an instance that was swapped out answers later than a new one starts: swapoff -a, or vm.swappiness=0"};
}

Finding check_huge_pages() {
  std::string setting;
  std::ifstream in("/sys/kernel/mm/transparent_hugepage/enabled");
  std::getline(in, setting);
  if (setting.empty())
    return {"huge pages", "slow", "not in this kernel",
            "a kernel with CONFIG_TRANSPARENT_HUGEPAGE: a start takes about a fifth more time without"};
  if (setting.find("[never]") != std::string::npos)
    return {"huge pages", "slow", "switched off", "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled"};
  if (!huge_pages_available())
    return {"huge pages", "slow", "none to be had",
            "Linux 6.1 or newer; where the memory is in pieces: echo 1 >/proc/sys/vm/compact_memory, then restart"};
  return {"huge pages", "ok", "2 MB, where they are asked for", ""};
}

}  // namespace

std::string isolation_summary() {
  std::string out;
  for (const Finding& f : {check_namespaces(), check_cgroups(), check_seccomp(), check_landlock()}) {
    if (f.state == "missing") out += fmt::format("{}{}: {} ({})", out.empty() ? "" : "; ", f.what, f.found, f.cure);
  }
  return out.empty() ? "complete" : "incomplete: " + out;
}

int doctor(bool json) {
  const Finding findings[] = {check_user(),    check_namespaces(), check_cgroups(), check_seccomp(),   check_landlock(),
                              check_runtime(), check_cpus(),       check_swap(),    check_huge_pages()};
  bool missing = false;
  nlohmann::json rows = nlohmann::json::array();
  for (const Finding& f : findings) {
    missing = missing || f.state == "missing";
    rows.push_back({{"what", f.what}, {"state", f.state}, {"found", f.found}, {"cure", f.cure}});
    if (!json) {
      fmt::print("{:<8} {:<14} {}\n", f.state, f.what, f.found);
      if (!f.cure.empty()) fmt::print("         {:<14} → {}\n", "", f.cure);
    }
  }
  if (json) fmt::print("{}\n", nlohmann::json{{"checks", rows}, {"complete", !missing}}.dump());
  return missing ? 1 : 0;
}

}  // namespace mayfly
