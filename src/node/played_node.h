// A node whose launcher and instances the test plays: threads that keep the arena's contract, with a model of their own
// (each row's sum) and a gate, so that what waits and what runs is decided by the test. For tests only.
#pragma once
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "node/node.h"

namespace mayfly {

using namespace std::chrono_literals;  // NOLINT: for tests only
inline constexpr float kPoison = 666, kOneRowOnly = 13;

// Starts and ends fake instances as the launcher would.
class FakeHost {
 public:
  FakeHost() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    server_.reset(pair[0]);
    mine_.reset(pair[1]);
    thread_ = std::thread([this] { serve(); });
  }
  ~FakeHost() {
    shutdown(mine_.get(), SHUT_RDWR);
    thread_.join();
    for (auto& [id, i] : instances_) stop(*i);
  }
  Fd take_server_end() { return std::move(server_); }
  void hold() { set_gate(false); }
  void release() { set_gate(true); }
  std::vector<std::int64_t> runs() {  // rows of each run, in order
    const std::lock_guard lock(mutex_);
    return rows_;
  }
  int cancelled() {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }
  void await_running() {  // an instance has taken a slot and stands at the gate
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, 20s, [&] { return at_gate_ > 0; }));
  }
  void kill(std::uint64_t id) { tell(LaunchEventKind::kExited, id); }  // the process of an idle instance ends
  void die() {  // what runs now ends its instance instead of answering
    {
      const std::lock_guard lock(mutex_);
      die_ = true;
    }
    release();
  }

 private:
  struct Instance {
    std::uint64_t id = 0;
    ArenaGeometry geometry;
    std::vector<Fd> fds;
    void* base = nullptr;
    ArenaView arena;
    std::atomic<bool> ended{false}, parked{false};
    std::thread thread;
  };
  void set_gate(bool open) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  void stop(Instance& i) {
    i.ended = true;
    release();
    const std::uint64_t one = 1;
    static_cast<void>(write(i.fds[2].get(), &one, sizeof one));
    if (i.thread.joinable()) i.thread.join();
    munmap(i.base, i.geometry.total_bytes());
  }
  void tell(LaunchEventKind kind, std::uint64_t id) {
    LaunchEvent e;
    e.kind = kind;
    e.id = id;
    e.pid = 1;
    send_message(mine_.get(), &e, sizeof e, {});
  }
  void serve() {
    for (;;) {
      LaunchRequest rq;
      Received got = receive_message(mine_.get(), &rq, sizeof rq);
      if (got.bytes != sizeof rq) return;
      if (rq.kind == LaunchKind::kEnd) {
        auto it = instances_.find(rq.id);
        if (it == instances_.end()) continue;
        stop(*it->second);
        instances_.erase(it);
        tell(LaunchEventKind::kExited, rq.id);
        continue;
      }
      if (rq.kind == LaunchKind::kPark || rq.kind == LaunchKind::kResume) {
        if (auto it = instances_.find(rq.id); it != instances_.end()) it->second->parked = rq.kind == LaunchKind::kPark;
        continue;
      }
      if (rq.kind == LaunchKind::kSettle) continue;
      auto i = std::make_unique<Instance>();
      i->id = rq.id;
      i->geometry = rq.geometry;
      i->fds = std::move(got.fds);
      i->base = mmap(nullptr, rq.geometry.total_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, i->fds[1].get(), 0);
      i->arena = ArenaView(i->base, rq.geometry);
      tell(LaunchEventKind::kStarted, rq.id);
      i->thread = std::thread([this, p = i.get()] { live(*p); });
      instances_.emplace(rq.id, std::move(i));
    }
  }
  void live(Instance& i) {
    ArenaHeader& h = i.arena.header();
    h.state.store(static_cast<std::uint32_t>(InstanceState::kReady));
    wake(i);
    while (!i.ended) {
      if (i.parked) {
        std::this_thread::sleep_for(1ms);
        continue;
      }
      const auto slot = ring_pop(h.submitted);
      if (!slot) {
        std::uint64_t n = 0;
        if (ring_prepare_sleep(h.submitted)) static_cast<void>(read(i.fds[2].get(), &n, sizeof n));
        continue;
      }
      if (!run(i, *slot)) {
        tell(LaunchEventKind::kExited, i.id);
        return;
      }
      if (ring_push(h.completed, *slot)) wake(i);
    }
  }
  void wake(Instance& i) {
    const std::uint64_t one = 1;
    static_cast<void>(write(i.fds[3].get(), &one, sizeof one));
  }
  bool run(Instance& i, std::uint32_t slot) {
    SlotHeader& s = i.arena.slot(slot);
    SlotResult& r = s.result;
    r.status = SlotStatus::kOk;
    r.output_count = 0;
    if (s.request.kind == RequestKind::kProbe) return true;
    const std::int64_t rows = s.request.inputs[0].dims[0];
    {
      std::unique_lock lock(mutex_);
      ++at_gate_;
      changed_.notify_all();
      changed_.wait(lock, [&] { return open_; });
      --at_gate_;
      rows_.push_back(rows);
      if (std::exchange(die_, false)) return false;
      if (s.cancel.load() != 0) {
        ++cancelled_;
        r.status = SlotStatus::kCancelled;
        return true;
      }
    }
    const auto* x = reinterpret_cast<const float*>(i.arena.input(slot).data() + s.request.inputs[0].offset);
    auto* sum = reinterpret_cast<float*>(i.arena.output(slot).data());
    std::int64_t out_rows = rows;
    for (std::int64_t n = 0; n < rows; ++n) {
      if (x[2 * n] == kPoison) {
        r.status = SlotStatus::kInvalidInput;
        std::snprintf(r.error_text, sizeof r.error_text, "poison");
        return true;
      }
      if (x[2 * n] == kOneRowOnly) out_rows = 1;
      sum[n] = x[2 * n] + x[2 * n + 1];
    }
    r.output_count = 1;
    TensorRef& t = r.outputs[0];
    t = TensorRef{};
    t.dtype = static_cast<std::uint8_t>(Dtype::kFp32);
    t.rank = 1;
    t.dims[0] = out_rows;
    t.bytes = static_cast<std::uint64_t>(out_rows) * 4;
    r.run_ns = 1000;
    return true;
  }
  Fd server_, mine_;
  std::thread thread_;
  std::map<std::uint64_t, std::unique_ptr<Instance>> instances_;  // the serving thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true, die_ = false;
  int at_gate_ = 0, cancelled_ = 0;
  std::vector<std::int64_t> rows_;
};

class Events final : public NodeObserver {
 public:
  void on_instance_event(const Version&, std::uint64_t, std::string_view event, std::string_view) override {
    seen.insert(std::string(event));
    ++times[std::string(event)];
  }
  std::set<std::string> seen;
  std::map<std::string, int> times;
};

// How a request ended: its sums, or why not.
struct Answer {
  std::string text = "pending";
  int place = 0;  // the how-manieth to end
  bool done() const { return text != "pending"; }
};

class NodeTest : public testing::Test {
 protected:
  explicit NodeTest(std::uint64_t memory_budget = 1ULL << 40)
      : launcher_(io_.get_executor(), host_.take_server_end(), [](const std::string&) {}),
        node_(io_.get_executor(), launcher_, events_, memory_budget) {
    launcher_.run();
  }
  ~NodeTest() override {
    host_.release();
    bool closed = false;
    asio::co_spawn(io_, node_.close(now_ns() + 2'000'000'000), [&](std::exception_ptr, Ok) { closed = true; });
    until([&] { return closed; });
    launcher_.close();
    for (int i = 0; i < 100 && io_.poll() > 0; ++i) {
    }
  }
  VersionPtr version(std::uint32_t concurrency = 16, std::uint32_t max = 1, std::uint32_t batch = 8,
                     std::uint32_t queue = 100) {
    auto v = std::make_shared<Version>();
    v->tenant = "t";
    v->endpoint = "sum";
    v->number = 1;
    v->number_text = "1";
    Shape x, y;
    x.rank = 2;
    x.dims = {-1, 2};
    y.rank = 1;
    y.dims = {-1};
    v->signature.inputs.push_back({"x", Dtype::kFp32, x});
    v->signature.outputs.push_back({"sum", Dtype::kFp32, y});
    v->settings.concurrency = concurrency;
    v->settings.max_instances = max;
    v->settings.queue = queue;
    v->settings.max_request_bytes = v->settings.max_response_bytes = 1 << 16;
    v->settings.batch_max = batch;
    v->batch = plan_batch(v->signature, batch, 1 << 16, 1 << 16);
    v->artefact_path = "/proc/version";  // opened, and never looked at; its size is 0
    return v;
  }
  // Runs the reactor until `condition`, for 20 s at most.
  void until(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!condition() && std::chrono::steady_clock::now() < end) {
      io_.restart();
      io_.run_for(1ms);
    }
    EXPECT_TRUE(condition());
  }
  Task<void> serve(VersionPtr v, std::vector<float> x, Ask ask, Answer* out) {
    co_await serve_once(std::move(v), std::move(x), ask, out);
    out->place = ++ended_;
  }
  Task<void> serve_once(VersionPtr v, std::vector<float> x, Ask ask, Answer* out) {
    for (;;) {
      auto lease = co_await node_.acquire(v, ask);
      if (!lease.ok()) {
        out->text = lease.error().reason;
        co_return;
      }
      SlotRequest rq;
      fill(*lease, x, rq);
      if (lease->joins() && !lease->fits(rq)) {
        lease->go_alone();
        fill(*lease, x, rq);
      }
      SlotResult result;
      const CallOutcome outcome = co_await lease->run(rq, result, ask.deadline_ns, ask.cancel);
      if (std::exchange(ask.may_join, false) && (outcome.apart || outcome.instance_lost)) continue;
      if (!outcome.status.ok()) {
        out->text = outcome.status.error().reason;
        co_return;
      }
      out->text.clear();
      if (result.status != SlotStatus::kOk) out->text = result.error_text;
      for (std::uint64_t i = 0; i < result.outputs[0].bytes / 4 && result.output_count > 0; ++i) {
        float y = 0;
        std::memcpy(&y, lease->output().data() + result.outputs[0].offset + 4 * i, 4);
        out->text += fmt::format("{}{}", out->text.empty() ? "" : " ", y);
      }
      co_return;
    }
  }
  static void fill(Lease& lease, const std::vector<float>& x, SlotRequest& rq) {
    InputArea area = lease.area();
    rq.kind = RequestKind::kTensors;
    rq.input_count = 1;
    TensorRef& t = rq.inputs[0];
    t = TensorRef{};
    t.dtype = static_cast<std::uint8_t>(Dtype::kFp32);
    t.rank = 2;
    t.dims[0] = static_cast<std::int64_t>(x.size() / 2);
    t.dims[1] = 2;
    t.bytes = std::min<std::uint64_t>(x.size() * 4, area.room(0).size());
    std::memcpy(area.room(0).data(), x.data(), t.bytes);
    t.offset = area.take(0, t.bytes);
  }
  void ask(const VersionPtr& v, std::vector<float> x, Answer& out, CancelSignal* cancel = nullptr,
           std::uint64_t within_ns = 20'000'000'000, std::uint64_t flow = 0) {
    Ask a;
    a.deadline_ns = now_ns() + within_ns;
    a.cancel = cancel;
    a.flow = flow;
    asio::co_spawn(io_, serve(v, std::move(x), a, &out), asio::detached);
  }
  std::string answer(const VersionPtr& v, std::vector<float> x) {
    Answer a;
    ask(v, std::move(x), a);
    until([&] { return a.done(); });
    return a.text;
  }
  // An instance that is ready, stands at the gate with one request, and has had nothing else.
  void occupy(const VersionPtr& v, Answer& out) {
    Answer first;
    ask(v, {0, 0}, first);
    until([&] { return first.done(); });
    host_.hold();
    ask(v, {1, 1}, out);
    io_.restart();
    io_.run_for(5ms);
    host_.await_running();
  }

  asio::io_context io_{1};
  FakeHost host_;
  Events events_;
  LauncherClient launcher_;
  Node node_;
  int ended_ = 0;
};

}  // namespace mayfly
