#include "node/instance.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <thread>

namespace mayfly {
namespace {

constexpr std::string_view kInstanceFailed = "instance_failed", kInstanceLost = "instance_lost";
constexpr std::uint64_t kGiveBackBytes = 4ULL << 20;  // a slot that used more gives its pages back

constexpr std::uint64_t kMeasureEveryNs = 1'000'000'000;
constexpr std::uint64_t kStartLimitNs = 10'000'000'000;  // or the timeout, if that is longer

std::uint64_t page_round(std::uint64_t n) { return (n + 4095) / 4096 * 4096; }

std::string describe_end(const LaunchEvent& e) {
  if (e.oom_kills > 0)
    return fmt::format("out of memory: its limit was reached (peak {} MiB); raise memory", e.peak_bytes >> 20);
  if (e.text[0] != '\0') return e.text;
  if (WIFSIGNALED(e.wait_status))
    return fmt::format("ended by signal {} ({})", WTERMSIG(e.wait_status), strsignal(WTERMSIG(e.wait_status)));
  if (WEXITSTATUS(e.wait_status) == 100)
    return "its sandbox could not be completed; `mayfly doctor` tells what this machine lacks";
  return fmt::format("exited with status {}", WEXITSTATUS(e.wait_status));
}

std::uint32_t run_threads(const NodeSettings& s) {
  const std::uint32_t by_cpu = std::max(1U, (s.cpu_milli + 999) / 1000);
  const std::uint32_t wanted = s.threads == 0 ? by_cpu : std::min(s.threads, by_cpu);
  return std::min(wanted, std::max(1U, std::thread::hardware_concurrency()));
}

// blame: instance_failed where the instance did it; instance_lost where it was ended by us, or could not be made.
Error lost(const Version& v, std::string_view blame, const std::string& cause) {
  return make_error(Code::kUnavailable, std::string(blame), "an instance of {} failed: {}", v.display(), cause);
}

}  // namespace

std::uint64_t used_bytes(const SlotRequest& request) {
  std::uint64_t end = request.raw_bytes;
  for (std::uint32_t i = 0; i < request.input_count; ++i) {
    end = std::max(end, request.inputs[i].offset + request.inputs[i].bytes);
  }
  return end;
}

Error late(const Version& v) {
  return make_error(Code::kDeadlineExceeded, "deadline_exceeded", "{} did not answer within its deadline", v.display());
}

Instance::Instance(Executor ex, LauncherClient& launcher, VersionPtr version, InstanceOwner& owner)
    : launcher_(launcher),
      version_(std::move(version)),
      owner_(owner),
      hand_over_(owner.hand_over()),
      id_(launcher.next_id()),
      slots_(std::min(std::max(version_->settings.concurrency, version_->batch.max_rows), kMaxSlots)),
      done_(ex),
      batch_timer_(ex) {}

Instance::~Instance() { MAYFLY_CHECK(phase_ == InstancePhase::kDead); }

Result<std::shared_ptr<Instance>> Instance::start(Executor ex, LauncherClient& launcher, VersionPtr version,
                                                  InstanceOwner& owner) {
  auto self = std::make_shared<Instance>(ex, launcher, std::move(version), owner);
  auto st = self->make_arena();
  if (st.ok()) st = self->launch();
  if (!st.ok()) {
    self->phase_ = InstancePhase::kDead;
    return st.error();
  }
  asio::co_spawn(ex, self->watch(self), asio::detached);
  return self;
}

Status Instance::make_arena() {
  ArenaGeometry g;
  g.slot_count = slots_;
  g.input_capacity = page_round(version_->settings.max_request_bytes);
  g.output_capacity = page_round(version_->settings.max_response_bytes);
  arena_fd_.reset(memfd_create("arena", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!arena_fd_.valid() || ftruncate(arena_fd_.get(), static_cast<off_t>(g.total_bytes())) != 0 ||
      fcntl(arena_fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return errno_error(errno, "make an arena");
  }
  void* base = mmap(nullptr, g.total_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, arena_fd_.get(), 0);
  if (base == MAP_FAILED) return errno_error(errno, "map an arena");
  mapping_ = Mapping(base, g.total_bytes());
  arena_ = ArenaView(base, g);
  ArenaHeader& h = arena_.header();
  h.magic = kArenaMagic;
  h.threads = run_threads(version_->settings);
  h.geometry = g;
  h.transform = version_->transform;
  h.heap_bytes = std::min(version_->heap_bytes, version_->settings.memory_bytes / 2);
  for (std::uint32_t i = slots_; i-- > 0;) free_.push_back(i);
  return Ok{};
}

Status Instance::launch() {
  wake_fd_.reset(eventfd(0, EFD_CLOEXEC));
  Fd done(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  Fd artefact(open(version_->artefact_path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat st{};
  if (!artefact.valid() || fstat(artefact.get(), &st) != 0) {
    return errno_error(errno,
                       fmt::format("open the artefact of {} at {}", version_->display(), version_->artefact_path));
  }
  if (version_->prefetch) arena_.header().on_disk = version_->prefetch->begin(artefact.get()) ? 1 : 0;
  LaunchRequest rq;
  rq.kind = LaunchKind::kInstance;
  rq.id = id_;
  rq.cpu_milli = version_->settings.cpu_milli;
  rq.memory_bytes = version_->settings.memory_bytes;
  rq.file_bytes = artefact_bytes_ = static_cast<std::uint64_t>(st.st_size);
  rq.geometry = arena_.geometry();
  const int fds[] = {artefact.get(), arena_fd_.get(), wake_fd_.get(), done.get()};
  spawned_ns_ = last_used_ns_ = now_ns();
  arena_.header().completed.sleeping.store(1);
  launcher_.start(rq, fds, this);
  done_.assign(done.release());
  return Ok{};
}

std::uint32_t Instance::take_slot() {
  MAYFLY_CHECK(!free_.empty());
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  return slot;
}

void Instance::give_place() {
  --held_;
  if (phase_ == InstancePhase::kDead) return;
  probe_if_unasked();
  owner_.on_slot_free(*this);
}

void Instance::return_slot(std::uint32_t slot, std::uint64_t bytes_used) {
  if (bytes_used > kGiveBackBytes && phase_ != InstancePhase::kDead) {
    const auto offset = static_cast<off_t>(arena_.geometry().slots_offset() + arena_.geometry().slot_bytes() * slot);
    fallocate(arena_fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
              static_cast<off_t>(arena_.geometry().slot_bytes()));
  }
  free_.push_back(slot);
}

void Instance::look_for_session() {
  if (loaded_ || arena_.header().state.load() != static_cast<std::uint32_t>(InstanceState::kReady)) return;
  loaded_ = true;
  owner_.on_loaded(*this);
}

// An instance is ready when it has run the model. Where nobody asks it anything (min, a wake whose request was
// refused), it is asked for one run on zeros.
void Instance::probe_if_unasked() {
  if (phase_ != InstancePhase::kStarting || !loaded_ || !running_.empty()) return;
  if (held_ > 0) return;  // a request will be the probe, or give_place() comes back here
  hold_place();
  SlotRequest probe;
  probe.kind = RequestKind::kProbe;
  submit(take_slot(), probe, nullptr);
}

void Instance::submit(std::uint32_t slot, const SlotRequest& request, Call* call) {
  std::memcpy(&arena_.slot(slot).request, &request,
              offsetof(SlotRequest, inputs) + sizeof(TensorRef) * request.input_count);
  used_[slot] = used_bytes(request);
  arena_.slot(slot).cancel.store(0, std::memory_order_relaxed);
  calls_[slot] = call;
  submitted_[slot] = true;
  last_used_ns_ = now_ns();
  if (running_.empty()) front_since_ns_ = last_used_ns_;
  running_.push_back(slot);
  hand_over_.submitted(last_used_ns_, call == nullptr ? 1 : call->requests());
  const bool sleeps = ring_push(arena_.header().submitted, slot);
  const bool expected = std::exchange(expected_, false);
  if (expected) hand_over_.woken(!sleeps);
  if (!sleeps && !expected) return;
  asio::post(done_.get_executor(), [self = shared_from_this(), sleeps] {
    if (sleeps) self->wake();
    self->wait_awake();
  });
}

// Posted by submit(), so that it runs after what is ready on this reactor: one wake then serves all requests that
// arrived together.
void Instance::wake() {
  const std::uint64_t one = kWakeForWork;
  static_cast<void>(write(wake_fd_.get(), &one, sizeof one));
}

void Instance::expect() {
  if (phase_ != InstancePhase::kReady || !hand_over_.wake_early(owner_.work_ns())) return;
  Ring& ring = arena_.header().submitted;
  if (ring.sleeping.load(std::memory_order_relaxed) == 0 || ring.sleeping.exchange(0) == 0) return;
  expected_ = true;
  const std::uint64_t early = kWakeForLater;
  static_cast<void>(write(wake_fd_.get(), &early, sizeof early));
}

// Instead of sleeping until the eventfd tells of the completion: the instance writes it only where `sleeping` is set.
void Instance::wait_awake() {
  // Posted: where it has ended meanwhile, its pool may be gone too.
  if (phase_ != InstancePhase::kReady || running_.empty() || !hand_over_.wait_awake(owner_.work_ns())) return;
  Ring& ring = arena_.header().completed;
  ring.sleeping.store(0, std::memory_order_relaxed);
  const bool there = ring_wait_awake(ring, policy::HandOver::kAwakeNs);
  hand_over_.waited(there);
  if (there || !ring_prepare_sleep(ring)) drain();
}

void Instance::abandon(std::uint32_t slot) {
  calls_[slot] = nullptr;
  hold_place();
  cancel_slot(arena_, slot);
}

const std::shared_ptr<Batch>& Instance::open_batch() {
  if (!open_) open_ = std::make_shared<Batch>(shared_from_this(), take_slot());
  return open_;
}

// Joining ends when the batch is full, or the instance has nothing to do and (policy) nobody is worth waiting for; then
// what arrived in the same turn of the reactor still joins.
void Instance::joined() {
  policy::BatchState s;
  s.rows = open_->rows();
  s.max_rows = version_->batch.max_rows;
  s.idle = running_.empty();
  s.opened_ns = open_->opened_ns();
  s.max_delay_ns = version_->settings.batch_delay_us * 1'000;
  s.gap_ns = owner_.arrival_gap_ns();
  s.run_ns = owner_.run_time_ns();
  s.deadline_ns = open_->earliest_deadline_ns();
  const auto d = policy::close_batch(s, s.max_delay_ns == 0 ? s.opened_ns : now_ns());
  if (d.full) return submit_open();
  if (d.wait_until_ns != 0) return wait_for_batch(d.wait_until_ns);
  if (!d.close || submit_posted_) return;
  submit_posted_ = true;
  asio::post(done_.get_executor(), [self = shared_from_this()] {
    self->submit_posted_ = false;
    if (self->open_ && self->running_.empty()) self->submit_open();
  });
}

void Instance::wait_for_batch(std::uint64_t until_ns) {
  batch_timer_.expires_at(to_time_point(until_ns));
  batch_timer_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
    if (!ec && self->open_ && self->running_.empty()) self->submit_open();
  });
}

void Instance::submit_open() {
  const auto batch = std::exchange(open_, nullptr);
  if (batch->empty()) return;
  const bool alive = phase_ == InstancePhase::kStarting || phase_ == InstancePhase::kReady;
  if (alive) return batch->submit();
  batch->finish(CallOutcome{lost(*version_, kInstanceLost, end_cause_), true});
}

void Instance::left(const Batch& batch) {
  if (open_.get() == &batch && batch.empty()) open_.reset();
}

bool Instance::complete(std::uint32_t slot) {
  if (slot >= slots_ || !submitted_[slot]) return false;
  submitted_[slot] = false;
  auto at = std::find(running_.begin(), running_.end(), slot);
  if (at == running_.end()) return false;
  running_.erase(at);
  hand_over_.completed();
  last_used_ns_ = now_ns();
  if (resumed_ns_ != 0) owner_.on_resumed(last_used_ns_ - std::exchange(resumed_ns_, 0));
  const std::uint64_t wall_ns = last_used_ns_ - std::exchange(front_since_ns_, last_used_ns_);
  Call* call = std::exchange(calls_[slot], nullptr);
  if (call == nullptr) {
    return_slot(slot, used_[slot]);
    give_place();
    return true;
  }
  ++requests_;
  if (Status st = read_result(arena_, slot, version_->signature, call->result()); !st.ok()) {
    call->finish(CallOutcome{lost(*version_, kInstanceFailed, st.error().message), true});
    return false;
  }
  owner_.on_run(wall_ns, call->result().run_ns, call->requests());
  if (tier_.after_run(version_->tier, arena_, memory_file_, version_->settings.memory_bytes)) wake();
  call->finish(CallOutcome{});
  return true;
}

void Instance::drain() {
  ArenaHeader& h = arena_.header();
  for (;;) {
    for (std::uint32_t n = 0; n <= kMaxSlots; ++n) {
      const auto slot = ring_pop(h.completed);
      if (!slot) break;
      const bool first = phase_ == InstancePhase::kStarting;
      if (first) phase_ = InstancePhase::kReady;
      if (n == kMaxSlots || !complete(*slot)) return end("it broke the contract of the arena", EndKind::kFailed);
      if (first) {
        launcher_.settle(id_);
        owner_.on_ready(*this);
      }
      if (phase_ >= InstancePhase::kEnding) return;
    }
    if (tier_.changed(arena_)) owner_.on_tier(*this);
    look_for_session();
    probe_if_unasked();
    if (open_ && running_.empty() && !submit_posted_) submit_open();
    if (ring_prepare_sleep(h.completed)) return;
  }
}

Task<void> Instance::watch(std::shared_ptr<Instance> self) {
  while (phase_ < InstancePhase::kEnding) {
    auto [ec] = co_await done_.async_wait(asio::posix::descriptor_base::wait_read, use_result);
    if (ec) break;
    std::uint64_t count = 0;
    static_cast<void>(::read(done_.native_handle(), &count, sizeof count));
    if (phase_ < InstancePhase::kEnding) drain();  // a parked one's last wake may come late, and arms the next
  }
  static_cast<void>(self);
}

void Instance::end(std::string why, EndKind kind) {
  if (phase_ == InstancePhase::kEnding || phase_ == InstancePhase::kDead) return;
  phase_ = InstancePhase::kEnding;
  end_cause_ = std::move(why);
  end_kind_ = kind;
  launcher_.end(id_);
  fail_calls(kind == EndKind::kFailed ? kInstanceFailed : kInstanceLost, end_cause_);
}

void Instance::fail_calls(std::string_view blame, const std::string& cause) {
  hand_over_.completed(static_cast<std::uint32_t>(running_.size()));
  for (std::uint32_t slot : std::exchange(running_, {})) {
    submitted_[slot] = false;
    if (Call* call = std::exchange(calls_[slot], nullptr))
      call->finish(CallOutcome{lost(*version_, blame, cause), true});
  }
  if (const auto batch = std::exchange(open_, nullptr); batch && !batch->empty())
    batch->finish(CallOutcome{lost(*version_, kInstanceLost, cause), true});
}

void Instance::on_ended(const LaunchEvent& event, bool refused) {
  auto self = shared_from_this();
  const bool was_ready = phase_ != InstancePhase::kStarting;
  std::string cause = end_cause_;
  if (cause.empty()) {
    cause = refused ? std::string(event.text) : describe_end(event);
    ArenaHeader& h = arena_.header();
    if (h.state.load() == static_cast<std::uint32_t>(InstanceState::kFailed)) {
      char text[kMaxErrorText];
      std::memcpy(text, h.error_text, sizeof text);
      text[sizeof text - 1] = '\0';
      cause = text;
    }
  }
  phase_ = InstancePhase::kDead;
  done_.close();
  const bool ours = refused || event.text[0] != '\0' || end_kind_ == EndKind::kPlanned;
  fail_calls(ours ? kInstanceLost : kInstanceFailed, cause);
  owner_.on_dead(*this, cause, refused && end_kind_ == EndKind::kFailed ? EndKind::kRefused : end_kind_, was_ready);
}

std::uint64_t Instance::memory_bytes() const {
  std::ifstream in(memory_file_);
  std::uint64_t n = 0;
  in >> n;
  return n;
}

// cgroup v1 calls it rss, v2 anon; shmem is what it has touched of its arena before the server did.
void Instance::measure(std::uint64_t now) {
  const bool again = measured_ns_ != 0 && (requests_ == measured_requests_ || now < measured_ns_ + kMeasureEveryNs);
  const auto slash = memory_file_.rfind('/');
  if (again || slash == std::string::npos) return;
  measured_ns_ = now;
  measured_requests_ = requests_;
  std::ifstream in(memory_file_.substr(0, slash) + "/memory.stat");
  std::uint64_t sum = 0, n = 0;
  for (std::string key; in >> key >> n;) {
    if (key == "rss" || key == "anon" || key == "shmem" || key == "kernel") sum += n;
  }
  private_bytes_ = sum;
}

StartKind Instance::start_kind() const {
  if (phase_ == InstancePhase::kStarting) return StartKind::kCold;
  return resumed_ns_ != 0 ? StartKind::kParked : StartKind::kWarm;
}

// Nothing waits for its completions, so that the stop may come at any instruction of it. What its slots hold is
// nobody's any more.
void Instance::park() {
  MAYFLY_CHECK(phase_ == InstancePhase::kReady && held_ == 0 && running_.empty() && !open_);
  phase_ = InstancePhase::kParked;
  parked_ns_ = now_ns();
  resumed_ns_ = 0;
  ahead_ = false;
  launcher_.park(id_);
  const auto slots = static_cast<off_t>(arena_.geometry().slots_offset());
  fallocate(arena_fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, slots,
            static_cast<off_t>(arena_.geometry().total_bytes()) - slots);
}

void Instance::resume() {
  MAYFLY_CHECK(phase_ == InstancePhase::kParked);
  phase_ = InstancePhase::kReady;
  resumed_ns_ = last_used_ns_ = now_ns();
  launcher_.resume(id_);
}

void Instance::check_time(std::uint64_t now) {
  for (std::uint32_t slot : running_) {
    if (calls_[slot] != nullptr && calls_[slot]->expire(now)) abandon(slot);
  }
  if (open_) {
    open_->expire(now);
    if (open_->empty()) open_.reset();
  }
  const std::uint64_t timeout_ns = version_->settings.timeout_ms * 1'000'000;
  if (!running_.empty() && now > front_since_ns_ + timeout_ns) {
    end(fmt::format("it hung: one run took longer than the timeout of {} ms", version_->settings.timeout_ms),
        EndKind::kFailed);
  }
  const std::uint64_t start_limit = std::max(timeout_ns, kStartLimitNs);
  if (phase_ == InstancePhase::kStarting && now > spawned_ns_ + start_limit) {
    end(fmt::format("it was not ready within {} ms", start_limit / 1'000'000), EndKind::kFailed);
  }
}

void Instance::add_start_phases(Phases& p) const {
  const ArenaHeader& h = arena_.header();
  auto span = [](std::uint64_t from, std::uint64_t to) {
    return to > from && to - from < 600'000'000'000 ? to - from : 0;
  };
  p.fetch = std::min(supplied_ns_, p.queue);
  p.queue -= p.fetch;
  p.fork = span(spawned_ns_, h.started_ns);
  p.isolate = span(h.started_ns, h.narrowed_ns);
  p.map = span(h.narrowed_ns, h.mapped_ns);
  p.init = span(h.mapped_ns, h.session_ns);
}

}  // namespace mayfly
