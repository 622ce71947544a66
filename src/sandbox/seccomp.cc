#include "sandbox/seccomp.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"

namespace mayfly {
namespace {

constexpr std::array kInstanceCalls = {
    // memory
    SCMP_SYS(brk),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    // the descriptors it was given
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(close),
    SCMP_SYS(fstat),
    SCMP_SYS(lseek),
    // threads and waiting
    SCMP_SYS(futex),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(membarrier),
    SCMP_SYS(getcpu),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    // time, randomness, facts about the machine
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getrusage),
    // signals to and within itself, end
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(tgkill),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

constexpr std::array kCompileCalls = {
    SCMP_SYS(openat),          SCMP_SYS(open),     SCMP_SYS(newfstatat), SCMP_SYS(stat),      SCMP_SYS(lstat),
    SCMP_SYS(statx),           SCMP_SYS(access),   SCMP_SYS(unlink),     SCMP_SYS(pread64),   SCMP_SYS(pwrite64),
    SCMP_SYS(writev),          SCMP_SYS(readv),    SCMP_SYS(fsync),      SCMP_SYS(ftruncate), SCMP_SYS(fallocate),
    SCMP_SYS(copy_file_range), SCMP_SYS(sendfile), SCMP_SYS(fcntl),      SCMP_SYS(getcwd),
};

constexpr scmp_datum_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;

int add_rules(scmp_filter_ctx ctx, SeccompProfile profile) {
  int rc = 0;
  for (int call : kInstanceCalls) rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 0);
  if (profile == SeccompProfile::kCompile) {
    for (int call : kCompileCalls) rc |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 0);
  }
  const scmp_arg_cmp threads_only{0, SCMP_CMP_MASKED_EQ, kThreadFlags, kThreadFlags};
  rc |= seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &threads_only);
  rc |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  if (profile == SeccompProfile::kInstance) {  // libc's fstat(fd) is newfstatat(fd, "", …, AT_EMPTY_PATH)
    // Its own threads only, and only to step back: SCHED_IDLE, and a choice of processors within the cpuset.
    const std::array idle_only = {scmp_arg_cmp{0, SCMP_CMP_EQ, 0, 0}, scmp_arg_cmp{1, SCMP_CMP_EQ, SCHED_IDLE, 0}};
    rc |= seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(sched_setscheduler), idle_only.size(), idle_only.data());
    rc |= seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(sched_setaffinity), 1, idle_only.data());
    const scmp_arg_cmp of_descriptor{3, SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH};
    rc |= seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1, &of_descriptor);
  }
  const scmp_arg_cmp names_only{0, SCMP_CMP_EQ, PR_SET_NAME, 0};
  rc |= seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, &names_only);
  return rc;
}

}  // namespace

Result<SeccompProgram> SeccompProgram::compile(SeccompProfile profile) {
  scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  if (ctx == nullptr) return errno_error(ENOMEM, "seccomp_init");
  Fd out(memfd_create("seccomp", MFD_CLOEXEC));
  int rc = add_rules(ctx, profile);
  if (rc == 0) rc = seccomp_export_bpf(ctx, out.get());
  seccomp_release(ctx);
  if (rc != 0) return errno_error(-rc, "compile the seccomp filter");
  struct stat st{};
  if (fstat(out.get(), &st) != 0) return errno_error(errno, "fstat");
  SeccompProgram program;
  program.code_.resize(static_cast<std::size_t>(st.st_size) / sizeof(sock_filter));
  if (pread(out.get(), program.code_.data(), static_cast<std::size_t>(st.st_size), 0) != st.st_size) {
    return errno_error(errno, "read the seccomp filter");
  }
  return program;
}

int SeccompProgram::load() const {
  sock_fprog prog{static_cast<unsigned short>(code_.size()), const_cast<sock_filter*>(code_.data())};
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0 ? 0 : errno;
}

}  // namespace mayfly
