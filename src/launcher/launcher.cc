#include "launcher/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "launcher/protocol.h"
#include "sandbox/cgroup.h"
#include "sandbox/networks.h"

namespace mayfly {
namespace {

constexpr std::size_t kBlanks = 4;       // held ahead of need
constexpr std::size_t kMaxFailures = 3;  // blanks in a row: requests are refused instead of kept
constexpr std::size_t kMaxSandboxes = 2000;
constexpr std::uint64_t kMaxMemory = 1ULL << 40;
constexpr std::uint32_t kMinPids = 64;  // threads of one sandbox, at least allowed
constexpr std::uint32_t kMaxRunThreads = 64;
// Shares of the processor against other sandboxes, in the units of cgroup v2's cpu.weight: one that starts goes first,
// for somebody waits for it and it is soon over.
constexpr std::uint32_t kStartingWeight = 1000, kSettledWeight = 100;

// A sandbox from blank to end. request_id 0: a blank that waits for work and holds nothing of any tenant.
struct Sandbox {
  Cgroup cgroup;
  Fd network, pidfd, socket;
  std::int32_t pid = 0;
  std::uint64_t request_id = 0;
};

// SIGKILL and SIGSTOP reach the first process of another pid namespace whatever it does about them, and SIGCONT goes
// on with it.
void send_signal(const Sandbox& sandbox, int signal) {
  if (sandbox.pidfd.valid()) {
    syscall(SYS_pidfd_send_signal, sandbox.pidfd.get(), signal, nullptr, 0);
  } else if (sandbox.pid > 1) {
    kill(sandbox.pid, signal);
  }
}

// While an instance changes its tier it has the threads of two sessions.
std::uint32_t max_pids(std::uint32_t cpu_milli) {
  return std::max(kMinPids, 2 * std::min(cpu_milli / 1000 + 1, kMaxRunThreads) + 8);
}
void end_sandbox(const Sandbox& sandbox) { send_signal(sandbox, SIGKILL); }

// A request for which no blank was ready.
struct Pending {
  LaunchRequest request;
  std::vector<Fd> fds;
};

class Launcher {
 public:
  explicit Launcher(const LauncherOptions& o)
      : options_(o), host_(detect_cgroups()), parent_(fmt::format("mayfly-{}", getpid())) {}
  int run();

 private:
  Status set_up();
  Status start_zygote();
  Status make_blank();
  void on_server();
  void on_zygote();
  void on_zygote_gone();
  void accept(const LaunchRequest& request, std::vector<Fd> fds);
  void serve_pending();
  Status hand_over(Sandbox& sandbox, const Pending& pending);
  void end(std::uint64_t request_id);
  bool change(const LaunchRequest& request);
  bool short_of_blanks() const {
    return zygote_ready_ && making_ + blanks_.size() < kBlanks + pending_.size() && failures_ < kMaxFailures;
  }
  void refuse(std::uint64_t id, std::string_view why);
  void end_processes();
  void end_all();
  void tell(const LaunchEvent& e) {
    if (!send_message(options_.server_socket, &e, sizeof e, {})) stop_ = true;
  }

  const LauncherOptions& options_;
  CgroupHost host_;
  std::string parent_;
  std::optional<EmptyNetworks> networks_;
  Fd zygote_;
  pid_t zygote_pid_ = -1;
  std::uint64_t next_blank_ = 1;
  std::uint32_t next_uid_ = 0;
  std::unordered_map<std::uint64_t, Sandbox> sandboxes_;         // by the number of the blank
  std::unordered_map<std::uint64_t, std::uint64_t> by_request_;  // request → blank
  std::deque<std::uint64_t> blanks_;                             // ready for work
  std::deque<Pending> pending_;
  std::size_t making_ = 0;    // asked of the zygote, not yet answered
  std::size_t failures_ = 0;  // blanks in a row that could not be made
  bool zygote_ready_ = false;
  bool stop_ = false;
};

Status Launcher::set_up() {
  sweep_orphaned_cgroups(host_);
  if (!host_.missing.empty() && options_.require_isolation) {
    return make_error(Code::kFailedPrecondition, "isolation_incomplete",
                      "this host lacks the cgroup controllers {}; mount them, or start with --allow-weak-isolation to "
                      "go on without these limits",
                      fmt::join(host_.missing, ", "));
  }
  MAYFLY_TRY(prepare_cgroup_parent(host_, parent_));
  auto networks = EmptyNetworks::create();
  if (!networks.ok()) return networks.error();
  networks_ = std::move(*networks);
  return start_zygote();
}

Status Launcher::start_zygote() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno_error(errno, "socketpair");
  const pid_t pid = fork();
  if (pid < 0) return errno_error(errno, "fork the zygote");
  if (pid == 0) {
    dup2(pair[1], kZygoteSocket);
    syscall(SYS_close_range, kZygoteSocket + 1, ~0U, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "mayfly-zygote");
    LaunchEvent failed;
    failed.kind = LaunchEventKind::kRefused;
    set_text(failed.text, options_.exec_zygote().message);
    send_message(kZygoteSocket, &failed, sizeof failed, {});
    pause();  // the launcher reports it and ends
    _exit(2);
  }
  close(pair[1]);
  zygote_.reset(pair[0]);
  zygote_pid_ = pid;
  return Ok{};
}

Status Launcher::make_blank() {
  const std::uint64_t id = next_blank_++;
  auto group = Cgroup::create(host_, parent_, std::to_string(id));
  if (!group.ok()) return group.error();
  group->set_weight(kStartingWeight);
  auto network = networks_->take();
  if (!network.ok()) return network.error();
  BlankRequest rq;
  rq.id = id;
  rq.uid = options_.first_uid + next_uid_++ % 1'000'000;
  rq.require_all = options_.require_isolation ? 1 : 0;
  std::vector<int> fds = group->procs_fds();
  rq.cgroup_count = static_cast<std::uint32_t>(fds.size());
  fds.push_back(network->get());
  if (!send_message(zygote_.get(), &rq, sizeof rq, fds))
    return make_error(Code::kUnavailable, "zygote_gone", "the zygote has ended");
  sandboxes_.emplace(id, Sandbox{std::move(*group), std::move(*network), Fd(), Fd(), 0, 0});
  ++making_;
  return Ok{};
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
  if (change(request)) return;
  accept(request, std::move(got.fds));
}

// What is asked of a sandbox that exists. One that has ended meanwhile needs nothing.
bool Launcher::change(const LaunchRequest& request) {
  if (request.kind == LaunchKind::kEnd) return end(request.id), true;
  if (request.kind != LaunchKind::kPark && request.kind != LaunchKind::kResume && request.kind != LaunchKind::kSettle)
    return false;
  auto it = by_request_.find(request.id);
  if (it == by_request_.end()) return true;
  Sandbox& sandbox = sandboxes_.at(it->second);
  if (request.kind == LaunchKind::kSettle)
    sandbox.cgroup.set_weight(kSettledWeight);
  else
    send_signal(sandbox, request.kind == LaunchKind::kPark ? SIGSTOP : SIGCONT);
  return true;
}

void Launcher::end(std::uint64_t request_id) {
  if (auto it = by_request_.find(request_id); it != by_request_.end()) return end_sandbox(sandboxes_.at(it->second));
  auto at =
      std::find_if(pending_.begin(), pending_.end(), [&](const Pending& p) { return p.request.id == request_id; });
  if (at == pending_.end()) return;
  pending_.erase(at);
  refuse(request_id, "ended before it was started");
}

void Launcher::accept(const LaunchRequest& request, std::vector<Fd> fds) {
  const std::size_t want = request.kind == LaunchKind::kInstance ? 4 : 3;
  if ((request.kind != LaunchKind::kInstance && request.kind != LaunchKind::kCompile) || fds.size() != want ||
      request.id == 0 || by_request_.contains(request.id)) {
    return refuse(request.id, "malformed request");
  }
  if (by_request_.size() + pending_.size() >= kMaxSandboxes) {
    return refuse(request.id, fmt::format("the limit of {} sandboxes is reached", kMaxSandboxes));
  }
  pending_.push_back(Pending{request, std::move(fds)});
  failures_ = 0;
  serve_pending();
}

void Launcher::serve_pending() {
  while (!pending_.empty() && !blanks_.empty()) {
    const std::uint64_t id = blanks_.front();
    blanks_.pop_front();
    auto it = sandboxes_.find(id);
    if (it == sandboxes_.end()) continue;  // it died while it waited
    const Pending pending = std::move(pending_.front());
    pending_.pop_front();
    const Status handed = hand_over(it->second, pending);
    if (handed.ok()) {
      by_request_.emplace(pending.request.id, id);
      continue;
    }
    refuse(pending.request.id, handed.error().message);
    end_sandbox(it->second);  // its limits are half set: it is not used again, and its end takes it off the books
  }
}

Status Launcher::hand_over(Sandbox& sandbox, const Pending& pending) {
  const LaunchRequest& rq = pending.request;
  const CgroupLimits limits{std::min(rq.memory_bytes, kMaxMemory), std::clamp(rq.cpu_milli, 10U, 1'000'000U),
                            max_pids(rq.cpu_milli)};
  MAYFLY_TRY(sandbox.cgroup.set(limits));
  std::vector<int> fds;
  for (const Fd& fd : pending.fds) fds.push_back(fd.get());
  if (!send_message(sandbox.socket.get(), &rq, sizeof rq, fds))
    return make_error(Code::kUnavailable, "blank_gone", "the prepared process has ended");
  sandbox.socket.reset();
  sandbox.request_id = rq.id;
  LaunchEvent e;
  e.kind = LaunchEventKind::kStarted;
  e.id = rq.id;
  e.pid = sandbox.pid;
  set_text(e.text, sandbox.cgroup.memory_file());
  tell(e);
  return Ok{};
}

// It died, and what it had made dies with it. Tell of each, start another.
void Launcher::on_zygote_gone() {
  for (auto& [request, id] : by_request_) {
    LaunchEvent gone;
    gone.kind = LaunchEventKind::kExited;
    gone.id = request;
    gone.wait_status = SIGKILL;
    set_text(gone.text, "the zygote has ended");
    tell(gone);
  }
  end_processes();
  zygote_ready_ = false;
  if (!start_zygote().ok()) stop_ = true;
}

void Launcher::on_zygote() {
  LaunchEvent e;
  Received got = receive_message(zygote_.get(), &e, sizeof e);
  if (got.bytes != sizeof e) return on_zygote_gone();
  if (e.id ==
      0) {  // primed, or unable to: then nothing can be started any more, and the server's supervisor has to know
    zygote_ready_ = e.kind == LaunchEventKind::kReady;
    tell(e);
    stop_ = stop_ || !zygote_ready_;
    return;
  }
  auto it = sandboxes_.find(e.id);
  if (it == sandboxes_.end()) return;
  Sandbox& sandbox = it->second;
  if (e.kind == LaunchEventKind::kStarted) {
    --making_;
    sandbox.pid = e.pid;
    if (got.fds.size() != 2) return end_sandbox(sandbox);  // out of descriptors
    sandbox.pidfd = std::move(got.fds[0]);
    sandbox.socket = std::move(got.fds[1]);
    blanks_.push_back(e.id);
    return serve_pending();
  }
  if (e.kind == LaunchEventKind::kRefused) --making_;
  const std::uint64_t request = sandbox.request_id;
  if (request != 0) {
    e.id = request;
    e.oom_kills = static_cast<std::uint32_t>(sandbox.cgroup.oom_kills());
    e.peak_bytes = sandbox.cgroup.peak_bytes();
    by_request_.erase(request);
    tell(e);
  } else {
    ++failures_;
    std::erase(blanks_, it->first);
  }
  networks_->give_back(std::move(sandbox.network));
  sandboxes_.erase(it);
}

// Ends the zygote and every sandbox, and waits until they are gone. Orphans of the zygote become children of this
// process.
void Launcher::end_processes() {
  kill(zygote_pid_, SIGKILL);
  zygote_.reset();  // with what is queued on it: descriptors that keep a sandbox waiting that nobody here knows yet
  for (auto& [id, sandbox] : sandboxes_) end_sandbox(sandbox);
  while (waitpid(-1, nullptr, 0) > 0) {
  }
  sandboxes_.clear();
  by_request_.clear();
  blanks_.clear();
  making_ = 0;
}

void Launcher::end_all() {
  end_processes();
  remove_cgroup_parent(host_, parent_);
}

int Launcher::run() {
  if (auto st = set_up(); !st.ok()) {
    refuse(0, st.error().message);
    remove_cgroup_parent(host_, parent_);
    return 2;
  }
  while (!stop_) {
    if (failures_ >= kMaxFailures && blanks_.empty() && making_ == 0) {
      for (const Pending& p : std::exchange(pending_, {}))
        refuse(p.request.id, "can't make a sandbox; `mayfly doctor` tells what this machine lacks");
    }
    pollfd fds[2] = {{options_.server_socket, POLLIN, 0}, {zygote_.get(), POLLIN, 0}};
    const int ready = poll(fds, 2, short_of_blanks() ? 0 : -1);
    if (ready == 0 && !make_blank().ok()) ++failures_;
    if (ready <= 0) continue;
    if (fds[1].revents != 0) on_zygote();
    if (fds[0].revents != 0) on_server();
  }
  end_all();
  return 0;
}

}  // namespace

int launcher_main(const LauncherOptions& options) {
  signal(SIGINT, SIG_IGN);  // the server decides when to stop; its socket tells
  signal(SIGTERM, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  prctl(PR_SET_NAME, "mayfly-launcher");
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // a zygote's orphans are reaped here
  return Launcher(options).run();
}

}  // namespace mayfly
