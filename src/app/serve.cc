// `mayfly serve`: split off the launcher, confine this process, build the parts, run until SIGTERM, drain.
#include <arpa/inet.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "app/app.h"
#include "app/fetch_setup.h"
#include "app/tls_files.h"
#include "control/control.h"
#include "control/server_event.h"
#include "fetch/bucket.h"
#include "gateway/front/server.h"
#include "gateway/gateway.h"
#include "launcher/client.h"
#include "launcher/launcher.h"
#include "node/node.h"
#include "runtimes/zygote/program/program.h"
#include "sandbox/narrow.h"

namespace mayfly {
namespace {

constexpr std::uint32_t kDefaultUid = 64999;  // where no user "mayfly" exists: an id that Debian leaves free
constexpr char kConfinedData[] = "/data";
constexpr char kLibraryName[] = "libonnxruntime.so.1.32.0";

struct Listen {
  std::string address;
  std::uint16_t port = 0;
  bool loopback = false;
};

Result<Listen> parse_listen(const std::string& text) {
  const auto colon = text.rfind(':');
  Listen out;
  unsigned port = 0;
  const char* end = text.data() + text.size();
  if (colon == std::string::npos || std::from_chars(text.data() + colon + 1, end, port).ptr != end ||
      colon + 1 == text.size() || port > 65535) {
    return invalid("invalid_listen", "--listen \"{}\": expected ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080",
                   text);
  }
  out.address = text.substr(0, colon);
  if (out.address.size() > 2 && out.address.front() == '[') out.address = out.address.substr(1, out.address.size() - 2);
  if (out.address == "localhost") out.address = "127.0.0.1";
  out.port = static_cast<std::uint16_t>(port);
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, out.address.c_str(), &v4) == 1)
    out.loopback = (ntohl(v4.s_addr) >> 24) == 127;
  else if (inet_pton(AF_INET6, out.address.c_str(), &v6) == 1)
    out.loopback = IN6_IS_ADDR_LOOPBACK(&v6);
  else
    return invalid("invalid_listen", "--listen \"{}\": \"{}\" is not an IP address", text, out.address);
  return out;
}

Result<std::uint32_t> server_uid(const std::string& user) {
  if (const passwd* p = getpwnam(user.empty() ? "mayfly" : user.c_str())) return p->pw_uid;
  if (user.empty()) return kDefaultUid;
  return invalid("unknown_user", "--user \"{}\": there is no such user", user);
}

// The data folder belongs to the server's id; everything in it is its own.
Status prepare_data_dir(const std::string& dir, std::uint32_t uid) {
  namespace fs = std::filesystem;
  std::error_code ec;
  fs::create_directories(dir + "/artefacts", ec);
  if (ec)
    return make_error(Code::kFailedPrecondition, "data_directory_unusable",
                      "cannot make the data folder {}: {}; choose another with --data", dir, ec.message());
  struct stat st{};
  if (stat(dir.c_str(), &st) == 0 && st.st_uid == uid) return Ok{};
  if (chmod(dir.c_str(), 0700) != 0 || chown(dir.c_str(), uid, uid) != 0)
    return errno_error(errno, fmt::format("give {} to uid {}", dir, uid));
  for (const auto& entry : fs::recursive_directory_iterator(dir, ec)) {
    if (lchown(entry.path().c_str(), uid, uid) != 0)
      return errno_error(errno, fmt::format("give {} to uid {}", entry.path().string(), uid));
  }
  return Ok{};
}

// The folder of POSIX shared memory, opened while its path still leads there; nothing where it is not wanted. The
// launcher exists already, so no other process has it.
Result<Fd> open_shared_memory(bool wanted) {
  if (!wanted) return Fd();
  Fd folder(open("/dev/shm", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return errno_error(errno, "open /dev/shm for --shared-memory");
  return folder;
}

// Forks the launcher. The caller keeps the returned end.
Result<Fd> split_off_launcher(const std::string& library, bool require_isolation) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno_error(errno, "socketpair");
  const pid_t pid = fork();
  if (pid < 0) return errno_error(errno, "fork the launcher");
  if (pid > 0) {
    close(pair[1]);
    return Fd(pair[0]);
  }
  dup2(pair[1], 3);
  syscall(SYS_close_range, 4, ~0U, 0);
  wipe_s3_environment();  // before any sandbox is cloned from what this process holds
  LauncherOptions o;
  o.server_socket = 3;
  o.require_isolation = require_isolation;
  o.exec_zygote = [library] { return exec_zygote(library); };
  _exit(launcher_main(o));
}

// The runtime's version, once the zygote is primed.
Result<std::string> await_launcher(int socket) {
  LaunchEvent e;
  const Received got = receive_message(socket, &e, sizeof e);
  if (got.bytes != sizeof e)
    return make_error(Code::kUnavailable, "launcher_failed", "the launcher ended at its start");
  e.text[sizeof e.text - 1] = '\0';
  if (e.kind != LaunchEventKind::kReady) return make_error(Code::kFailedPrecondition, "launcher_failed", "{}", e.text);
  return std::string(e.text);
}

// What this process may take at most: the machine's memory, or less where its control group has a limit. The limits
// of the groups above it are not looked at.
std::uint64_t usable_memory() {
  std::uint64_t bytes =
      static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::uint64_t limit = 0;
    if (std::ifstream(file) >> limit) bytes = std::min(bytes, limit);
  }
  return bytes;
}

class Server {
 public:
  Server(const ServeOptions& o, Listen listen, Fd launcher, std::string runtime, Fd log, std::unique_ptr<TlsFiles> tls,
         Fd shared_memory, std::uint64_t memory_budget, std::unique_ptr<Fetcher> fetcher,
         std::unique_ptr<Bucket> bucket)
      : options_(o),
        memory_budget_(memory_budget),
        tls_(std::move(tls)),
        listen_(std::move(listen)),
        runtime_(std::move(runtime)),
        shared_memory_(std::move(shared_memory)),
        fetcher_(std::move(fetcher)),
        bucket_(std::move(bucket)),
        log_fd_(std::move(log)),
        log_(log_fd_.get()),
        keys_(o.require_keys || !listen_.loopback),
        launcher_(io_.get_executor(), std::move(launcher), [this](std::string why) { on_launcher_gone(why); }),
        signals_(io_.get_executor()),
        reload_signal_(io_.get_executor()),
        tls_timer_(io_.get_executor()) {}
  Result<int> run();
  void event(std::string_view name, std::string_view detail) { log_server_event(log_, name, detail); }

 private:
  Status open_store();
  Task<void> start();
  Task<void> wait_for_end();
  Task<void> flush_log();
  Task<void> on_reload_signal();
  Task<void> watch_tls();
  void on_launcher_gone(const std::string& why);
  void fail(const Error& e) {
    failure_ = e;
    io_.stop();
  }

  const ServeOptions& options_;
  std::uint64_t memory_budget_;
  std::unique_ptr<TlsFiles> tls_;  // null: no TLS
  Listen listen_;
  std::string runtime_;
  Fd shared_memory_;
  std::unique_ptr<Fetcher> fetcher_;
  std::unique_ptr<Bucket> bucket_;  // null: packages are kept here only
  Fd log_fd_;
  asio::io_context io_{1};
  Log log_;
  BlockingPool blocking_{2};
  KeyRing keys_;
  LauncherClient launcher_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<PackageStore> packages_;
  std::unique_ptr<Control> control_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<Gateway> gateway_;
  std::unique_ptr<front::Server> http_;
  asio::basic_signal_set<Executor> signals_;
  asio::basic_signal_set<Executor> reload_signal_;
  Timer tls_timer_;
  bool reload_tls_ = false;  // asked for by SIGHUP
  std::optional<Error> failure_;
};

void Server::on_launcher_gone(const std::string& why) {
  fail(make_error(Code::kUnavailable, "launcher_failed",
                  "{}: no instance can be started any more; the server ends so that its supervisor starts it anew",
                  why));
}

Status Server::open_store() {
  auto store = open_sqlite_store(kConfinedData);
  if (!store.ok()) return store.error();
  store_ = std::move(*store);
  auto packages = open_package_store(std::string(kConfinedData) + "/packages");
  if (!packages.ok()) return packages.error();
  packages_ = std::move(*packages);
  auto rows = store_->keys();
  if (!rows.ok()) return rows.error();
  for (const KeyRow& row : *rows) keys_.add(row);
  if (!listen_.loopback && keys_.active() == 0) {
    return make_error(
        Code::kFailedPrecondition, "keys_required",
        "refusing to listen on {} without keys: anyone who reaches it could deploy and read; start on 127.0.0.1, run "
        "`mayfly keys create NAME --scopes admin`, then start again",
        listen_.address);
  }
  return Ok{};
}

Task<void> Server::start() {
  auto restored = co_await control_->restore();
  if (!restored.ok()) {
    fail(restored.error());
    co_return;
  }
  front::Server::Options o;
  o.address = listen_.address;
  o.port = listen_.port;
  o.log = [this](std::string_view name, std::string_view detail) { event(name, detail); };
  o.limits.max_streams = options_.max_streams;
  if (tls_) o.tls = tls_->context();
  o.allow_plain = options_.tls_allow_plain;
  auto http = front::Server::create(io_.get_executor(), o, *gateway_);
  if (!http.ok()) {
    fail(http.error());
    co_return;
  }
  http_ = std::move(*http);
  http_->start();
  gateway_->set_ready(true);
  const std::string at = listen_.address.find(':') == std::string::npos ? listen_.address : '[' + listen_.address + ']';
  event("listening", fmt::format("{}://{}:{}", tls_ ? "https" : "http", at, http_->port()));
}

Task<void> Server::wait_for_end() {
  auto [ec, signal] = co_await signals_.async_wait(use_result);
  if (ec) co_return;
  event("stopping", fmt::format("signal {}; running requests have {} ms", signal, options_.drain_ms));
  gateway_->set_ready(false);
  const std::uint64_t until = now_ns() + options_.drain_ms * 1'000'000;
  if (http_) co_await http_->drain(to_time_point(until));
  if (auto kept = co_await control_->keep_measures(); !kept.ok()) event("measures_lost", kept.error().message);
  co_await node_->close(until);
  event("stopped", "");
  launcher_.close();
  io_.stop();
}

Task<void> Server::flush_log() {
  Timer timer(io_.get_executor());
  for (;;) {
    timer.expires_after(std::chrono::milliseconds(200));
    auto [ec] = co_await timer.async_wait(use_result);
    if (ec) co_return;
    if (log_.pending()) log_.flush();
  }
}

// SIGHUP reads the certificate anew; without TLS there is nothing to do, and the server does not end of it.
Task<void> Server::on_reload_signal() {
  for (;;) {
    auto [ec, signal] = co_await reload_signal_.async_wait(use_result);
    if (ec) co_return;
    if (!tls_) event("reload", "SIGHUP: there is no certificate to read anew");
    reload_tls_ = tls_ != nullptr;
    tls_timer_.cancel();
  }
}

// A certificate that can't be used leaves the one before it in use. Each state of the files is told once.
Task<void> Server::watch_tls() {
  constexpr auto kPeriod = std::chrono::seconds(2);
  auto load = [this] { return tls_->load(); };
  auto look = [this] { return tls_->changed(); };
  if (auto first = co_await blocking_.run(load); !first.ok()) {
    event(
        "tls_reload_impossible",
        first.error().message + "; in use as read at the start, but changes will not be seen: see docs/production.md");
  }
  for (;;) {
    tls_timer_.expires_after(kPeriod);
    co_await tls_timer_.async_wait(use_result);
    const bool asked = std::exchange(reload_tls_, false);
    if (!asked && !co_await blocking_.run(look)) continue;
    auto loaded = co_await blocking_.run(load);
    if (!loaded.ok()) {
      event("tls_reload_failed", loaded.error().message + "; the certificate before it stays in use");
      continue;
    }
    if (http_) http_->replace_tls(tls_->context());
    event("tls_reloaded", options_.tls_cert);
  }
}

Result<int> Server::run() {
  MAYFLY_TRY(open_store());
  ControlOptions c;
  c.data_dir = kConfinedData;
  c.max_package_bytes = options_.max_package_bytes;
  c.tenant_quota_bytes = options_.tenant_quota_bytes;
  c.disk_quota_bytes = options_.disk_quota_bytes;
  c.runtime_version = runtime_;
  control_ =
      std::make_unique<Control>(io_.get_executor(), c, *store_, *packages_, blocking_, launcher_, *fetcher_, log_);
  node_ = std::make_unique<Node>(io_.get_executor(), launcher_, *control_, memory_budget_);
  control_->attach(*node_);
  if (bucket_) control_->set_bucket(*bucket_);
  gateway_ = std::make_unique<Gateway>(GatewayOptions{MAYFLY_VERSION, std::move(shared_memory_)}, *control_, *node_,
                                       keys_, *store_, *packages_, blocking_, log_);
  launcher_.run();
  signals_.add(SIGTERM);
  signals_.add(SIGINT);
  asio::co_spawn(io_, start(), asio::detached);
  asio::co_spawn(io_, wait_for_end(), asio::detached);
  asio::co_spawn(io_, flush_log(), asio::detached);
  reload_signal_.add(SIGHUP);
  asio::co_spawn(io_, on_reload_signal(), asio::detached);
  if (tls_) asio::co_spawn(io_, watch_tls(), asio::detached);
  io_.run();
  log_.close();
  if (failure_) return std::move(*failure_);
  return 0;
}

Result<int> serve_or_error(const ServeOptions& o) {
  auto listen = parse_listen(o.listen);
  if (!listen.ok()) return listen.error();
  if (geteuid() != 0) {
    return make_error(Code::kFailedPrecondition, "needs_root",
                      "`mayfly serve` starts as root: its launcher makes namespaces and cgroups; the server itself "
                      "gives up all privileges at once. "
                      "docs/production.md says more");
  }
  auto library = find_runtime_library(o.runtime_dir);
  if (!library.ok()) return library.error();
  auto uid = server_uid(o.user);
  if (!uid.ok()) return uid.error();
  MAYFLY_TRY(prepare_data_dir(o.data_dir, *uid));
  Fd log(o.log_file.empty() ? dup(2) : open(o.log_file.c_str(), O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0640));
  if (!log.valid()) return errno_error(errno, fmt::format("open the log {}", o.log_file));
  const std::string isolation = isolation_summary();
  const std::uint64_t budget = o.memory_budget_bytes != 0 ? o.memory_budget_bytes : usable_memory() / 5 * 4;
  auto launcher = split_off_launcher(*library, o.require_isolation);
  if (!launcher.ok()) return launcher.error();
  auto runtime = await_launcher(launcher->get());
  if (!runtime.ok()) return runtime.error();
  auto shared_memory = open_shared_memory(o.shared_memory);
  if (!shared_memory.ok()) return shared_memory.error();
  // After the fork, so that neither launcher nor sandboxes have ever held the key.
  std::unique_ptr<TlsFiles> tls;
  if (!o.tls_cert.empty()) {
    auto opened = TlsFiles::open(o.tls_cert, o.tls_key);
    if (!opened.ok()) return opened.error();
    tls = std::move(*opened);
  }
  auto fetch = fetch_options(o);
  if (!fetch.ok()) return fetch.error();
  auto fetcher = Fetcher::create(std::move(*fetch));
  if (!fetcher.ok()) return fetcher.error();
  std::unique_ptr<Bucket> bucket;
  if (!o.packages.empty()) {
    auto named = Bucket::create(**fetcher, o.packages);
    if (!named.ok()) return named.error();
    bucket = std::move(*named);
  }
  MAYFLY_TRY(confine_server(o.data_dir.c_str(), *uid,
                            tls ? std::span<const ReadOnlyFolder>(tls->folders()) : std::span<const ReadOnlyFolder>(),
                            resolver_files()));
  if (tls) tls->confined();
  // Parts hold references to each other and coroutines hold references to parts: the process ends without taking them
  // down.
  auto* server = new Server(o, *listen, std::move(*launcher), *runtime, std::move(log), std::move(tls),
                            std::move(*shared_memory), budget, std::move(*fetcher), std::move(bucket));
  server->event("isolation", isolation);
  return server->run();
}

}  // namespace

Result<std::string> find_runtime_library(const std::string& runtime_dir) {
  std::error_code ec;
  const auto exe = std::filesystem::read_symlink("/proc/self/exe", ec).parent_path();
  std::vector<std::string> places;
  if (!runtime_dir.empty())
    places = {runtime_dir};
  else
    places = {(exe / "../lib/mayfly").string(), (exe / "../lib").string(),
              std::string(MAYFLY_DEPS_DIR) + "/onnxruntime"};
  for (const std::string& dir : places) {
    std::string path = fmt::format("{}/{}", dir, kLibraryName);
    if (access(path.c_str(), R_OK) == 0) return path;
  }
  return make_error(Code::kFailedPrecondition, "runtime_not_found",
                    "cannot find {} in {}; name its folder with --runtime", kLibraryName, fmt::join(places, ", "));
}

// Each instance takes three descriptors here and four in the launcher: use all that the host allows.
static void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int serve(const ServeOptions& options) {
  signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  auto result = serve_or_error(options);
  if (result.ok()) _exit(*result);
  fmt::print(stderr, "mayfly: {}\n", result.error().message);
  _exit(result.error().code == Code::kUnavailable ? 1 : 2);
}

}  // namespace mayfly
