#include "runtimes/zygote/zygote.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <unordered_map>

#include "launcher/protocol.h"
#include "runtimes/onnx/onnx_runtime.h"
#include "runtimes/zygote/huge_text.h"
#include "sandbox/narrow.h"

namespace mayfly {
namespace {

constexpr std::size_t kReportBytes = 1 << 20;
constexpr std::size_t kMaxCgroups = 4;

std::uint64_t monotonic_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

class Zygote {
 public:
  explicit Zygote(const ZygoteOptions& o) : options_(o) {}
  int run();

 private:
  Status set_up();
  void on_request();
  void on_child();
  [[noreturn]] void blank(const BlankRequest& rq, const std::vector<Fd>& fds, int socket);
  [[noreturn]] void serve(const LaunchRequest& rq, std::uint64_t started_ns);
  [[noreturn]] void compile(const LaunchRequest& rq);
  void tell(const LaunchEvent& e, std::span<const int> fds = {}) {
    if (!send_message(options_.socket, &e, sizeof e, fds)) _exit(0);  // the launcher is gone
  }

  const ZygoteOptions& options_;
  std::unique_ptr<OnnxRuntime> runtime_;
  SeccompProgram instance_filter_, compile_filter_;
  Fd signals_;
  std::unordered_map<pid_t, std::uint64_t> children_;
};

Status Zygote::set_up() {
  auto runtime = OnnxRuntime::load(options_.runtime_library);
  if (!runtime.ok()) return runtime.error();
  runtime_ = std::move(*runtime);
  static_cast<void>(put_code_on_huge_pages(options_.runtime_library));  // only slower without
  MAYFLY_TRY(runtime_->prime());
  auto instance = SeccompProgram::compile(SeccompProfile::kInstance);
  if (!instance.ok()) return instance.error();
  instance_filter_ = std::move(*instance);
  auto compile = SeccompProgram::compile(SeccompProfile::kCompile);
  if (!compile.ok()) return compile.error();
  compile_filter_ = std::move(*compile);
  std::error_code ec;
  const auto threads = std::distance(std::filesystem::directory_iterator("/proc/self/task", ec), {});
  if (threads != 1) {
    return make_error(Code::kInternal, "zygote_has_threads",
                      "the runtime started {} threads; a zygote must have one to fork safely", threads - 1);
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  MAYFLY_TRY(enter_empty_root());
  return keep_only_sandbox_capabilities();
}

void Zygote::serve(const LaunchRequest& rq, std::uint64_t started_ns) {
  constexpr int kArtefact = kFirstSandboxFd, kArena = kFirstSandboxFd + 1, kWake = kFirstSandboxFd + 2,
                kDone = kFirstSandboxFd + 3;
  const std::size_t bytes = rq.geometry.total_bytes();
  struct stat st{};
  if (fstat(kArena, &st) != 0 || static_cast<std::size_t>(st.st_size) < bytes) _exit(101);
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kArena, 0);
  if (base == MAP_FAILED) _exit(102);
  InstanceArgs args;
  args.runtime = runtime_.get();
  args.artefact_fd = kArtefact;
  args.artefact_bytes = rq.file_bytes;
  args.arena = ArenaView(base, rq.geometry);
  args.wake_fd = kWake;
  args.done_fd = kDone;
  args.arena.header().started_ns = started_ns;
  args.arena.header().narrowed_ns = monotonic_ns();
  _exit(run_instance(args));
}

void Zygote::compile(const LaunchRequest& rq) {
  constexpr int kModel = kFirstSandboxFd, kReport = kFirstSandboxFd + 1, kArtefact = kFirstSandboxFd + 2;
  void* report = mmap(nullptr, kReportBytes, PROT_READ | PROT_WRITE, MAP_SHARED, kReport, 0);
  if (report == MAP_FAILED) _exit(102);
  CompileArgs args;
  args.runtime = runtime_.get();
  args.model_fd = kModel;
  args.model_bytes = rq.file_bytes;
  args.artefact_fd = kArtefact;
  args.scratch_dir = kScratchDir;
  args.report = {static_cast<char*>(report), kReportBytes};
  _exit(run_compile(args));
}

// The child's whole life before it is an instance. It holds capabilities while it waits, and no tenant's byte.
void Zygote::blank(const BlankRequest& rq, const std::vector<Fd>& fds, int socket) {
  // First of all: while anyone holds the zygote's end of this socket, the launcher can't see that the zygote has died.
  close(options_.socket);
  signals_.reset();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  auto fail = [](const char* step) {
    dprintf(2, "mayfly: sandbox: can't %s: %s\n", step, std::strerror(errno));
    _exit(100);
  };
  int groups[kMaxCgroups];
  for (std::size_t i = 0; i < rq.cgroup_count; ++i) groups[i] = fds[i].get();
  if (const char* step = join({groups, rq.cgroup_count}, fds.back().get())) fail(step);
  // What the fork left shared or unmapped is made its own now, ahead of need, by a session of the priming model: 200
  // page faults that a start would have. Where work is waiting already that would only be in its way.
  pollfd work{socket, POLLIN, 0};
  if (poll(&work, 1, 0) == 0) static_cast<void>(runtime_->prime().ok());

  LaunchRequest launch;
  const Received got = receive_message(socket, &launch, sizeof launch);
  const std::uint64_t started_ns = monotonic_ns();
  if (got.bytes != sizeof launch) _exit(0);  // the launcher is gone
  const bool compiling = launch.kind == LaunchKind::kCompile;
  int keep[kMaxLaunchFds];
  if (got.fds.size() > kMaxLaunchFds) _exit(100);
  for (std::size_t i = 0; i < got.fds.size(); ++i) keep[i] = got.fds[i].get();
  NarrowOptions o;
  o.keep_fds = {keep, got.fds.size()};
  o.uid = rq.uid;
  // An artefact is about as large as its model; ten times that, and some, is a model that wants to fill the disk.
  o.max_file_bytes = compiling ? launch.file_bytes * 10 + (64ULL << 20) : 0;
  o.scratch_bytes = compiling ? launch.scratch_bytes : 0;
  o.seccomp = compiling ? &compile_filter_ : &instance_filter_;
  o.require_all = rq.require_all != 0;
  if (const char* step = narrow(o)) fail(step);
  if (compiling) compile(launch);
  serve(launch, started_ns);
}

void Zygote::on_request() {
  BlankRequest rq;
  Received got = receive_message(options_.socket, &rq, sizeof rq);
  if (got.bytes <= 0) _exit(0);
  MAYFLY_CHECK(got.bytes == sizeof rq && rq.cgroup_count <= kMaxCgroups && got.fds.size() == rq.cgroup_count + 1);
  int pair[2];
  MAYFLY_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
  const Fd ours(pair[0]), theirs(pair[1]);
  int pidfd = -1;
  constexpr unsigned long kFlags =
      CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_PIDFD | SIGCHLD;
  const long pid = syscall(SYS_clone, kFlags, nullptr, &pidfd, nullptr, nullptr);
  if (pid == 0) {
    close(pair[0]);
    blank(rq, got.fds, pair[1]);
  }
  LaunchEvent e;
  e.id = rq.id;
  if (pid < 0) {
    e.kind = LaunchEventKind::kRefused;
    set_text(e.text, fmt::format("clone: {}", std::strerror(errno)));
    return tell(e);
  }
  children_.emplace(static_cast<pid_t>(pid), rq.id);
  e.kind = LaunchEventKind::kStarted;
  e.pid = static_cast<std::int32_t>(pid);
  const int fds[] = {pidfd, ours.get()};
  tell(e, fds);
  close(pidfd);
}

void Zygote::on_child() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == sizeof info) {
  }
  int status = 0;
  for (pid_t pid = 0; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    auto it = children_.find(pid);
    if (it == children_.end()) continue;
    LaunchEvent e;
    e.kind = LaunchEventKind::kExited;
    e.id = it->second;
    e.pid = pid;
    e.wait_status = status;
    children_.erase(it);
    tell(e);
  }
}

int Zygote::run() {
  LaunchEvent e;
  if (auto st = set_up(); !st.ok()) {
    e.kind = LaunchEventKind::kRefused;
    set_text(e.text, st.error().message);
    tell(e);
    pause();  // the launcher reports it and ends
    return 2;
  }
  set_text(e.text, runtime_->version());
  tell(e);
  for (;;) {
    pollfd fds[2] = {{options_.socket, POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return 1;
    if (fds[1].revents != 0) on_child();
    if (fds[0].revents != 0) on_request();
  }
}

}  // namespace

int zygote_main(const ZygoteOptions& options) { return Zygote(options).run(); }

}  // namespace mayfly
