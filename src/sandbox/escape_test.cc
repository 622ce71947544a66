// Each attempt to leave the sandbox is a small program that must fail with the expected errno, in both profiles. The
// child is made the way the zygote makes it: empty root, new namespaces, join(), narrow(). Needs root.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "base/fd.h"
#include "sandbox/cgroup.h"
#include "sandbox/narrow.h"

namespace mayfly {
namespace {

constexpr std::uint32_t kUid = 0x70ABCDEF;
constexpr int kNotNarrowed = 200;
using Attempt = int (*)();  // 0: it got out; else the errno that stopped it

int result(long rc) { return rc < 0 ? errno : 0; }

struct Ended {
  int status = 0;
  std::uint64_t oom_kills = 0;
};

[[noreturn]] void sandboxed(Attempt attempt, SeccompProfile profile, const std::vector<int>& groups, int netns,
                            int kept_fd) {
  auto filter = SeccompProgram::compile(profile);
  if (!filter.ok() || !enter_empty_root().ok() || !keep_only_sandbox_capabilities().ok()) _exit(kNotNarrowed);
  const long pid =
      syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | SIGCHLD, nullptr,
              nullptr, nullptr, nullptr);
  if (pid == 0) {
    NarrowOptions o;
    o.keep_fds = {&kept_fd, 1};
    o.uid = kUid;
    o.scratch_bytes = profile == SeccompProfile::kCompile ? 1 << 20 : 0;
    o.max_file_bytes = profile == SeccompProfile::kCompile ? 4 << 20 : 0;
    o.seccomp = &*filter;
    if (join(groups, netns) != nullptr || narrow(o) != nullptr) _exit(kNotNarrowed);
    _exit(attempt());
  }
  int status = 0;
  waitpid(static_cast<pid_t>(pid), &status, 0);
  if (WIFSIGNALED(status)) _exit(128 + WTERMSIG(status));
  _exit(WEXITSTATUS(status));
}

class Escape : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    host_ = detect_cgroups();
    parent_ = "mayfly-test-" + std::to_string(getpid());
    ASSERT_TRUE(prepare_cgroup_parent(host_, parent_).ok());
  }
  void TearDown() override {
    if (!parent_.empty()) remove_cgroup_parent(host_, parent_);
  }
  Ended run(Attempt attempt, SeccompProfile profile = SeccompProfile::kInstance) {
    auto group = Cgroup::create(host_, parent_, "child");
    EXPECT_TRUE(group.ok() && group->set({256ULL << 20, 1000, 8}).ok());
    const Fd kept(memfd_create("kept", MFD_CLOEXEC));
    Ended ended;
    const pid_t pid = fork();
    if (pid == 0) {
      if (unshare(CLONE_NEWNET) != 0) _exit(kNotNarrowed);
      const Fd netns(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
      sandboxed(attempt, profile, group->procs_fds(), netns.get(), kept.get());
    }
    waitpid(pid, &ended.status, 0);
    ended.oom_kills = group->oom_kills();
    return ended;
  }
  void expect_errno(Attempt attempt, int expected, SeccompProfile profile = SeccompProfile::kInstance) {
    const int status = run(attempt, profile).status;
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), expected) << strerror(WEXITSTATUS(status));
  }
  CgroupHost host_;
  std::string parent_;
};

TEST_F(Escape, TheHarnessNoticesWhatIsAllowed) {
  expect_errno([] { return result(syscall(SYS_getpid)); }, 0);
  expect_errno([] { return syscall(SYS_getpid) == 1 ? 0 : 99; }, 0);  // alone in its pid namespace
}

TEST_F(Escape, Files) {
  expect_errno([] { return result(open("/etc/passwd", O_RDONLY)); }, EPERM);
  expect_errno([] { return result(open("/proc/self/mem", O_RDWR)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_openat2, AT_FDCWD, "/", nullptr, 0)); }, EPERM);
  expect_errno([] { return result(open("/etc/passwd", O_RDONLY)); }, ENOENT,
               SeccompProfile::kCompile);  // the root is empty
  expect_errno([] { return result(open("/new", O_CREAT | O_WRONLY, 0600)); }, EROFS,
               SeccompProfile::kCompile);  // and read-only
  expect_errno([] { return result(open("/scratch/../..", O_RDONLY | O_DIRECTORY)); }, EACCES, SeccompProfile::kCompile);
}

TEST_F(Escape, CompileMayUseItsScratchFolderUpToItsSize) {
  expect_errno([] { return result(open("/scratch/x", O_CREAT | O_RDWR, 0600)); }, 0, SeccompProfile::kCompile);
  expect_errno(
      [] {
        const int fd = open("/scratch/x", O_CREAT | O_RDWR, 0600);
        return result(fallocate(fd, 0, 0, 2 << 20));
      },
      ENOSPC, SeccompProfile::kCompile);
}

TEST_F(Escape, Network) {
  for (auto profile : {SeccompProfile::kInstance, SeccompProfile::kCompile}) {
    expect_errno([] { return result(socket(AF_INET, SOCK_STREAM, 0)); }, EPERM, profile);
    expect_errno([] { return result(socket(AF_UNIX, SOCK_STREAM, 0)); }, EPERM, profile);
    expect_errno([] { return result(socket(AF_NETLINK, SOCK_RAW, 0)); }, EPERM, profile);
  }
}

TEST_F(Escape, OtherProcesses) {
  for (auto profile : {SeccompProfile::kInstance, SeccompProfile::kCompile}) {
    expect_errno([] { return result(ptrace(PTRACE_TRACEME, 0, 0, 0)); }, EPERM, profile);
    expect_errno([] { return result(kill(-1, SIGKILL)); }, EPERM, profile);
    expect_errno([] { return result(syscall(SYS_process_vm_readv, 1, nullptr, 0, nullptr, 0, 0)); }, EPERM, profile);
    expect_errno([] { return result(syscall(SYS_pidfd_open, 1, 0)); }, EPERM, profile);
  }
}

int set_policy(long pid, int policy) {
  const sched_param param{policy == SCHED_FIFO ? 1 : 0};
  return result(syscall(SYS_sched_setscheduler, pid, policy, &param));
}
int set_first_cpu(long pid) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return errno;
  return result(syscall(SYS_sched_setaffinity, pid, sizeof set, &set));
}

// A thread of an instance may step back behind the others, and choose among the processors that it has.
TEST_F(Escape, SchedulingOnlyDownAndOnlyItsOwn) {
  expect_errno([] { return set_policy(0, SCHED_IDLE); }, 0);
  expect_errno([] { return set_first_cpu(0); }, 0);
  expect_errno([] { return set_policy(1, SCHED_IDLE); }, EPERM);
  expect_errno([] { return set_first_cpu(1); }, EPERM);
  expect_errno([] { return set_policy(0, SCHED_FIFO); }, EPERM);
  expect_errno([] { return set_policy(0, SCHED_OTHER); }, EPERM);
  expect_errno([] { return result(setpriority(PRIO_PROCESS, 0, -5)); }, EPERM);
  expect_errno([] { return set_policy(0, SCHED_IDLE); }, EPERM, SeccompProfile::kCompile);
  expect_errno([] { return set_first_cpu(0); }, EPERM, SeccompProfile::kCompile);
}

TEST_F(Escape, NewProcesses) {
  expect_errno([] { return result(syscall(SYS_fork)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_vfork)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_clone3, nullptr, 0)); }, ENOSYS);
  expect_errno([] { return result(execl("/bin/sh", "sh", nullptr)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_execveat, 3, "", nullptr, nullptr, AT_EMPTY_PATH)); }, EPERM);
}

TEST_F(Escape, RegainingPrivileges) {
  expect_errno([] { return result(syscall(SYS_setuid, 0)); }, EPERM);
  expect_errno([] { return result(unshare(CLONE_NEWUSER)); }, EPERM);
  expect_errno([] { return result(setns(3, 0)); }, EPERM);
  expect_errno([] { return result(mount("x", "/", "tmpfs", 0, nullptr)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_pivot_root, "/", "/")); }, EPERM);
  expect_errno(
      [] {
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        __user_cap_data_struct data[2] = {{~0U, ~0U, 0}, {~0U, ~0U, 0}};
        return result(syscall(SYS_capset, &header, data));
      },
      EPERM);
}

TEST_F(Escape, KernelSurface) {
  expect_errno([] { return result(syscall(SYS_bpf, 0, nullptr, 0)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_userfaultfd, 0)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_io_uring_setup, 1, nullptr)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_keyctl, 0, 0, 0, 0, 0)); }, EPERM);
  expect_errno([] { return result(syscall(SYS_ioctl, 3, 0x5412, nullptr)); }, EPERM);
}

TEST_F(Escape, InheritedDescriptors) {
  expect_errno([] { return result(write(3, "", 0)); }, 0);  // the one it was given
  for (Attempt attempt :
       {Attempt([] { return result(write(0, "", 0)); }), Attempt([] { return result(write(1, "", 0)); }),
        Attempt([] { return result(write(2, "", 0)); }), Attempt([] { return result(write(4, "", 0)); })}) {
    expect_errno(attempt, EBADF);
  }
}

TEST_F(Escape, MemoryBombEndsAtTheLimitAndIsReportedAsSuch) {
  const Ended ended = run([] {
    for (;;) {
      void* p = mmap(nullptr, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) return 1;
      memset(p, 1, 16 << 20);
    }
  });
  EXPECT_TRUE(WIFEXITED(ended.status) && WEXITSTATUS(ended.status) == 128 + SIGKILL);
  EXPECT_GT(ended.oom_kills, 0U);
}

TEST_F(Escape, ThreadBombEndsAtThePidsLimit) {
  expect_errno(
      [] {
        for (int made = 0; made < 64; ++made) {
          pthread_t thread;
          const int rc = pthread_create(
              &thread, nullptr,
              [](void*) -> void* {
                for (;;) sched_yield();
              },
              nullptr);
          if (rc != 0) return made < 8 ? rc : 99;  // the group's limit is 8
        }
        return 0;
      },
      EAGAIN);
}

}  // namespace
}  // namespace mayfly
