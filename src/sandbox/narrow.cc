#include "sandbox/narrow.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "base/fd.h"

namespace mayfly {
namespace {

int set_capabilities(std::uint64_t mask) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  for (int i = 0; i < 2; ++i) {
    data[i].effective = data[i].permitted = static_cast<std::uint32_t>(mask >> (32 * i));
  }
  return static_cast<int>(syscall(SYS_capset, &header, data));
}

void drop_bounding_set(std::uint64_t keep) {
  for (unsigned long cap = 0; cap < 64; ++cap) {
    if ((keep >> cap & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) break;  // past the last one
  }
}

bool join_cgroups(std::span<const int> procs) {
  for (int fd : procs) {
    if (write(fd, "0", 1) != 1) return false;
  }
  return true;
}

bool mount_scratch(std::uint64_t bytes, std::uint32_t uid) {
  char data[128];
  auto end =
      fmt::format_to_n(data, sizeof data - 1, "size={},mode=0700,uid={},gid={},nr_inodes=64", bytes, uid, uid).out;
  *end = '\0';
  return mount("scratch", kScratchDir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, data) == 0;
}

// Moves keep[i] to 3 + i and closes all else. Two passes, since a kept descriptor may already lie in the target range.
bool arrange_fds(std::span<const int> keep) {
  constexpr int kStage = 200;
  const int n = static_cast<int>(keep.size());
  for (int i = 0; i < n; ++i) {
    if (dup2(keep[static_cast<std::size_t>(i)], kStage + i) < 0) return false;
  }
  for (int i = 0; i < n; ++i) {
    if (dup2(kStage + i, kFirstSandboxFd + i) < 0) return false;
  }
  return syscall(SYS_close_range, 0, kFirstSandboxFd - 1, 0) == 0 &&
         syscall(SYS_close_range, kFirstSandboxFd + n, ~0U, 0) == 0;
}

bool become(std::uint32_t uid) {
  return syscall(SYS_setgroups, 0, nullptr) == 0 && syscall(SYS_setresgid, uid, uid, uid) == 0 &&
         syscall(SYS_setresuid, uid, uid, uid) == 0;
}

void set_limit(__rlimit_resource what, rlim_t value) {
  rlimit now{};
  if (getrlimit(what, &now) == 0 && now.rlim_max < value) value = now.rlim_max;
  rlimit limit{value, value};
  setrlimit(what, &limit);
}

void set_limits(bool files, std::uint64_t max_file_bytes) {
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_NOFILE, files ? 64 : 16);
  set_limit(RLIMIT_FSIZE, max_file_bytes);
  set_limit(RLIMIT_MEMLOCK, 0);
  set_limit(RLIMIT_MSGQUEUE, 0);
}

constexpr std::uint64_t kLandlockAll =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
    LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
    LANDLOCK_ACCESS_FS_MAKE_SYM;

// No path may be opened at all, except files below the scratch folder where there is one. ENOSYS, EOPNOTSUPP: not in
// this kernel.
bool restrict_paths(bool scratch) {
  landlock_ruleset_attr attr{};
  attr.handled_access_fs = kLandlockAll;
  const int rules = static_cast<int>(syscall(SYS_landlock_create_ruleset, &attr, sizeof attr.handled_access_fs, 0));
  if (rules < 0) return errno == ENOSYS || errno == EOPNOTSUPP;
  bool ok = true;
  if (scratch) {
    landlock_path_beneath_attr beneath{};
    beneath.allowed_access = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
                             LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG;
    beneath.parent_fd = open(kScratchDir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    ok = beneath.parent_fd >= 0 && syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) == 0;
    if (beneath.parent_fd >= 0) close(beneath.parent_fd);
  }
  ok = ok && syscall(SYS_landlock_restrict_self, rules, 0) == 0;
  close(rules);
  return ok;
}

}  // namespace

const char* join(std::span<const int> cgroup_procs, int netns_fd) {
  if (!join_cgroups(cgroup_procs)) return "join the cgroups";
  if (setns(netns_fd, CLONE_NEWNET) != 0) return "enter an empty network namespace";
  return nullptr;
}

const char* narrow(const NarrowOptions& o) {
  const bool scratch = o.scratch_bytes > 0;
  if (scratch && !mount_scratch(o.scratch_bytes, o.uid)) return "mount the scratch folder";
  if (!arrange_fds(o.keep_fds)) return "arrange the descriptors";
  if (!become(o.uid)) return "take the unprivileged id";
  // A user namespace of its own with no ids mapped. It comes with a full set of capabilities: they are dropped right
  // here.
  if (unshare(CLONE_NEWUSER) != 0 && o.require_all) return "make a user namespace";
  drop_bounding_set(0);
  if (set_capabilities(0) != 0) return "drop the capabilities";
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return "forbid dumps and tracing";
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return "tie its life to the zygote";
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return "set no_new_privs";
  set_limits(scratch, o.max_file_bytes);
  if (!restrict_paths(scratch)) return "close the file system (Landlock)";
  errno = o.seccomp->load();
  return errno == 0 ? nullptr : "load the system-call filter";
}

namespace {

Status own_mounts() {
  if (unshare(CLONE_NEWNS) != 0) return errno_error(errno, "make a mount namespace");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) return Ok{};
  if (errno != EINVAL) return errno_error(errno, "make mounts private");
  return make_error(
      Code::kFailedPrecondition, "root_is_no_mount",
      "the root folder is no mount point, as in a plain chroot: enter it by pivot_root, or bind it onto itself first "
      "(mount --bind DIR DIR)");
}

// `dir` becomes a fresh tmpfs that will be the root.
Status begin_root(const char* dir, const char* options) {
  if (mount("mayfly", dir, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0)
    return errno_error(errno, "mount an empty root");
  return Ok{};
}

Status finish_root(const char* dir) {
  if (chdir(dir) != 0) return errno_error(errno, "enter the new root");
  if (syscall(SYS_pivot_root, ".", ".") != 0) return errno_error(errno, "pivot_root");
  if (umount2(".", MNT_DETACH) != 0) return errno_error(errno, "detach the old root");
  if (chdir("/") != 0) return errno_error(errno, "enter the new root");
  if (mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, nullptr) != 0) {
    return errno_error(errno, "make the root read-only");
  }
  return Ok{};
}

Status bind(const char* from, const char* to, unsigned long extra) {
  if (mount(from, to, nullptr, MS_BIND | MS_REC, nullptr) != 0)
    return errno_error(errno, fmt::format("bind {} to {}", from, to));
  if (extra != 0 && mount(nullptr, to, nullptr, MS_REMOUNT | MS_BIND | extra, nullptr) != 0) {
    return errno_error(errno, fmt::format("remount {}", to));
  }
  return Ok{};
}

constexpr char kRootAt[] = "/tmp";

}  // namespace

Status enter_empty_root() {
  MAYFLY_TRY(own_mounts());
  MAYFLY_TRY(begin_root(kRootAt, "size=16k,mode=0755,nr_inodes=8"));
  if (mkdir("/tmp/scratch", 0755) != 0) return errno_error(errno, "make the scratch mount point");
  return finish_root(kRootAt);
}

Status keep_only_sandbox_capabilities() {
  // CAP_KILL: without it the kernel refuses the parent-death signal to children of another id, and they would outlive
  // the zygote.
  constexpr std::uint64_t kKeep =
      1ULL << CAP_SYS_ADMIN | 1ULL << CAP_SETUID | 1ULL << CAP_SETGID | 1ULL << CAP_SETPCAP | 1ULL << CAP_KILL;
  drop_bounding_set(kKeep);
  if (set_capabilities(kKeep) != 0) return errno_error(errno, "drop the zygote's capabilities");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error(errno, "set no_new_privs");
  return Ok{};
}

// A file of the server's new root.
Status place(const SmallFile& file) {
  const std::string to = kRootAt + file.path;
  Fd out(open(to.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444));
  const std::string& text = file.content;
  if (!out.valid() || write(out.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return errno_error(errno, fmt::format("write {}", to));
  return Ok{};
}

Status confine_server(const char* data_dir, std::uint32_t uid, std::span<const ReadOnlyFolder> folders,
                      std::span<const SmallFile> files) {
  MAYFLY_TRY(own_mounts());  // first: a mount can be bound only within its own namespace
  Fd data(open(data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!data.valid()) return errno_error(errno, fmt::format("open the data folder {}", data_dir));
  std::vector<Fd> opened;  // before the new root may cover their paths
  for (const ReadOnlyFolder& f : folders) {
    opened.emplace_back(open(f.from.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!opened.back().valid()) return errno_error(errno, fmt::format("open the folder {}", f.from));
  }
  MAYFLY_TRY(begin_root(kRootAt, "size=256k,mode=0755,nr_inodes=48"));
  for (const char* dir : {"/tmp/data", "/tmp/proc", "/tmp/cgroup", "/tmp/dev", "/tmp/tmp", "/tmp/etc"}) {
    if (mkdir(dir, 0755) != 0) return errno_error(errno, fmt::format("make {}", dir));
  }
  MAYFLY_TRY(bind(fmt::format("/proc/self/fd/{}", data.get()).c_str(), "/tmp/data", MS_NOSUID | MS_NODEV | MS_NOEXEC));
  MAYFLY_TRY(bind("/sys/fs/cgroup", "/tmp/cgroup", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC));
  MAYFLY_TRY(bind("/proc", "/tmp/proc", 0));
  for (const char* node : {"null", "urandom"}) {
    const std::string to = fmt::format("/tmp/dev/{}", node);
    Fd file(open(to.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    MAYFLY_TRY(bind(fmt::format("/dev/{}", node).c_str(), to.c_str(), 0));
  }
  for (std::size_t i = 0; i < folders.size(); ++i) {
    const std::string to = kRootAt + folders[i].to;
    if (mkdir(to.c_str(), 0755) != 0) return errno_error(errno, fmt::format("make {}", to));
    MAYFLY_TRY(bind(fmt::format("/proc/self/fd/{}", opened[i].get()).c_str(), to.c_str(),
                    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC));
  }
  for (const SmallFile& file : files) MAYFLY_TRY(place(file));
  MAYFLY_TRY(finish_root(kRootAt));
  drop_bounding_set(0);
  if (!become(uid)) return errno_error(errno, fmt::format("become uid {}", uid));
  if (set_capabilities(0) != 0) return errno_error(errno, "drop the server's capabilities");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error(errno, "set no_new_privs");
  return Ok{};
}

}  // namespace mayfly
