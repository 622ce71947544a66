#include "launcher/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <unordered_map>

#include "launcher/protocol.h"
#include "sandbox/cgroup.h"

namespace mayfly {
namespace {

constexpr std::size_t kBlanks = 8;                       // sandboxes' outer parts made ahead
constexpr std::size_t kMaxSandboxes = 2000;
constexpr std::uint64_t kMaxMemory = 1ULL << 40;
constexpr std::uint32_t kMaxPids = 64;                   // threads of one sandbox

// What is dear to make and holds nothing of any tenant.
struct Blank {
  Cgroup cgroup;
  Fd netns;
};

struct Sandbox {
  Cgroup cgroup;
  Fd pidfd;
};

class Launcher {
 public:
  explicit Launcher(const LauncherOptions& o) : options_(o), host_(detect_cgroups()), parent_(fmt::format("mayfly-{}", getpid())) {}
  int run();

 private:
  Status set_up();
  Status start_zygote();
  Result<Blank> make_blank();
  void refill();
  void on_server();
  void on_zygote();
  void start(const LaunchRequest& request, std::vector<Fd> fds);
  Status forward(const LaunchRequest& request, const std::vector<Fd>& fds, Blank& blank);
  void refuse(std::uint64_t id, std::string_view why);
  void end_all();
  void tell(const LaunchEvent& e) { if (!send_message(options_.server_socket, &e, sizeof e, {})) stop_ = true; }

  const LauncherOptions& options_;
  CgroupHost host_;
  std::string parent_;
  Fd zygote_;
  pid_t zygote_pid_ = -1;
  std::uint64_t next_blank_ = 1;
  std::uint32_t next_uid_ = 0;
  std::deque<Blank> blanks_;
  std::unordered_map<std::uint64_t, Sandbox> sandboxes_;
  bool stop_ = false;
};

Status Launcher::set_up() {
  sweep_orphaned_cgroups(host_);
  if (!host_.missing.empty() && options_.require_isolation) {
    return make_error(Code::kFailedPrecondition, "isolation_incomplete",
                      "this host lacks the cgroup controllers {}; mount them, or start with --allow-weak-isolation to go on without these limits",
                      fmt::join(host_.missing, ", "));
  }
  MAYFLY_TRY(prepare_cgroup_parent(host_, parent_));
  return start_zygote();
}

Status Launcher::start_zygote() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno_error(errno, "socketpair");
  const pid_t pid = fork();
  if (pid < 0) return errno_error(errno, "fork the zygote");
  if (pid == 0) {
    dup2(pair[1], 3);
    syscall(SYS_close_range, 4, ~0U, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "mayfly-zygote");
    _exit(options_.zygote_main(3, options_.require_isolation));
  }
  close(pair[1]);
  zygote_.reset(pair[0]);
  zygote_pid_ = pid;
  return Ok{};
}

Result<Blank> Launcher::make_blank() {
  auto group = Cgroup::create(host_, parent_, std::to_string(next_blank_++));
  if (!group.ok()) return group.error();
  if (unshare(CLONE_NEWNET) != 0) return errno_error(errno, "make a network namespace");
  Fd ns(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!ns.valid()) return errno_error(errno, "open a network namespace");
  return Blank{std::move(*group), std::move(ns)};
}

void Launcher::refill() {
  auto blank = make_blank();
  if (blank.ok()) blanks_.push_back(std::move(*blank));
}

void Launcher::refuse(std::uint64_t id, std::string_view why) {
  LaunchEvent e;
  e.kind = LaunchEventKind::kRefused;
  e.id = id;
  set_text(e.text, why);
  tell(e);
}

void Launcher::on_server() {
  LaunchRequest request;
  Received got = receive_message(options_.server_socket, &request, sizeof request);
  if (got.bytes <= 0) {
    stop_ = true;
    return;
  }
  if (got.bytes != sizeof request) return refuse(0, "malformed request");
  if (request.kind == LaunchKind::kEnd) {
    if (auto it = sandboxes_.find(request.id); it != sandboxes_.end()) {
      syscall(SYS_pidfd_send_signal, it->second.pidfd.get(), SIGKILL, nullptr, 0);
    }
    return;
  }
  start(request, std::move(got.fds));
}

void Launcher::start(const LaunchRequest& request, std::vector<Fd> fds) {
  const std::size_t want = request.kind == LaunchKind::kInstance ? 4 : 3;
  if ((request.kind != LaunchKind::kInstance && request.kind != LaunchKind::kCompile) || fds.size() != want ||
      sandboxes_.contains(request.id)) {
    return refuse(request.id, "malformed request");
  }
  if (sandboxes_.size() >= kMaxSandboxes) return refuse(request.id, fmt::format("the limit of {} sandboxes is reached", kMaxSandboxes));
  if (blanks_.empty()) refill();
  if (blanks_.empty()) return refuse(request.id, "can't make a cgroup or a network namespace");
  Blank blank = std::move(blanks_.front());
  blanks_.pop_front();
  if (auto st = forward(request, fds, blank); !st.ok()) return refuse(request.id, st.error().message);
  sandboxes_.emplace(request.id, Sandbox{std::move(blank.cgroup), Fd()});
}

Status Launcher::forward(const LaunchRequest& request, const std::vector<Fd>& fds, Blank& blank) {
  ZygoteRequest z;
  z.launch = request;
  z.uid = options_.first_uid + next_uid_++ % 1'000'000;
  z.require_all = options_.require_isolation ? 1 : 0;
  CgroupLimits limits{std::min(request.memory_bytes, kMaxMemory), std::clamp(request.cpu_milli, 10U, 1'000'000U), kMaxPids};
  MAYFLY_TRY(blank.cgroup.set(limits));
  std::vector<int> out;
  for (const Fd& fd : fds) out.push_back(fd.get());
  const std::vector<int> procs = blank.cgroup.procs_fds();
  z.cgroup_count = static_cast<std::uint32_t>(procs.size());
  out.insert(out.end(), procs.begin(), procs.end());
  out.push_back(blank.netns.get());
  if (!send_message(zygote_.get(), &z, sizeof z, out)) return make_error(Code::kUnavailable, "zygote_gone", "the zygote has ended");
  return Ok{};
}

void Launcher::on_zygote() {
  LaunchEvent e;
  Received got = receive_message(zygote_.get(), &e, sizeof e);
  if (got.bytes <= 0) {  // it died: its sandboxes died with it (PDEATHSIG); tell of each, start another
    int status = 0;
    waitpid(zygote_pid_, &status, 0);
    for (auto& [id, sandbox] : sandboxes_) {
      LaunchEvent gone;
      gone.kind = LaunchEventKind::kExited;
      gone.id = id;
      gone.wait_status = SIGKILL;
      set_text(gone.text, "the zygote has ended");
      tell(gone);
    }
    sandboxes_.clear();
    static_cast<void>(start_zygote().ok());
    return;
  }
  if (got.bytes != sizeof e) return;
  auto it = sandboxes_.find(e.id);
  if (e.kind == LaunchEventKind::kStarted && it != sandboxes_.end() && got.fds.size() == 1) {
    it->second.pidfd = std::move(got.fds[0]);
    set_text(e.text, it->second.cgroup.memory_file());
  } else if ((e.kind == LaunchEventKind::kExited || e.kind == LaunchEventKind::kRefused) && it != sandboxes_.end()) {
    e.oom_kills = static_cast<std::uint32_t>(it->second.cgroup.oom_kills());
    e.peak_bytes = it->second.cgroup.peak_bytes();
    sandboxes_.erase(it);
  }
  tell(e);
}

void Launcher::end_all() {
  for (auto& [id, sandbox] : sandboxes_) {
    if (sandbox.pidfd.valid()) syscall(SYS_pidfd_send_signal, sandbox.pidfd.get(), SIGKILL, nullptr, 0);
  }
  kill(zygote_pid_, SIGKILL);
  while (waitpid(-1, nullptr, 0) > 0) {}
  sandboxes_.clear();
  blanks_.clear();
  remove_cgroup_parent(host_, parent_);
}

int Launcher::run() {
  if (auto st = set_up(); !st.ok()) {
    refuse(0, st.error().message);
    remove_cgroup_parent(host_, parent_);
    return 2;
  }
  while (!stop_) {
    pollfd fds[2] = {{options_.server_socket, POLLIN, 0}, {zygote_.get(), POLLIN, 0}};
    const int ready = poll(fds, 2, blanks_.size() < kBlanks ? 0 : -1);
    if (ready == 0) {
      refill();
      continue;
    }
    if (fds[1].revents != 0) on_zygote();
    if (fds[0].revents != 0) on_server();
  }
  end_all();
  return 0;
}

}  // namespace

int launcher_main(const LauncherOptions& options) {
  signal(SIGINT, SIG_IGN);   // the server decides when to stop; its socket tells
  signal(SIGTERM, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  prctl(PR_SET_NAME, "mayfly-launcher");
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // a zygote's orphans are reaped here
  return Launcher(options).run();
}

}  // namespace mayfly
