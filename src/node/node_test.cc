// The node against a launcher and instances that the test plays: threads that keep the arena's contract, with a model
// of their own (each row's sum) and a gate, so that what waits and what runs is decided by the test.
#include "node/node.h"

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

namespace mayfly {
namespace {

using namespace std::chrono_literals;
constexpr float kPoison = 666, kOneRowOnly = 13;

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
    std::atomic<bool> ended{false};
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
  }
  std::set<std::string> seen;
};

// How a request ended: its sums, or why not.
struct Answer {
  std::string text = "pending";
  int place = 0;  // the how-manieth to end
  bool done() const { return text != "pending"; }
};

class NodeTest : public testing::Test {
 protected:
  NodeTest()
      : launcher_(io_.get_executor(), host_.take_server_end(), [](const std::string&) {}),
        node_(io_.get_executor(), launcher_, events_) {
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
    v->artefact_path = "/proc/self/exe";  // opened, and never looked at
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

TEST_F(NodeTest, WhatArrivesWhileTheInstanceWorksRunsTogether) {
  const VersionPtr v = version();
  Answer first, a, b, c;
  occupy(v, first);
  ask(v, {1, 2}, a);
  ask(v, {3, 4, 5, 6}, b);
  ask(v, {7, 8}, c);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return a.done() && b.done() && c.done() && first.done(); });
  EXPECT_EQ(first.text, "2");
  EXPECT_EQ(a.text, "3");
  EXPECT_EQ(b.text, "7 11");
  EXPECT_EQ(c.text, "15");
  EXPECT_EQ(host_.runs(), (std::vector<std::int64_t>{1, 1, 4}));
}

TEST_F(NodeTest, WhatArrivesTogetherRunsTogether) {
  const VersionPtr v = version();
  Answer warm;
  ask(v, {0, 0}, warm);
  until([&] { return warm.done(); });
  std::vector<Answer> answers(5);
  for (std::size_t i = 0; i < answers.size(); ++i) ask(v, {float(i), 1}, answers[i]);
  until([&] { return std::all_of(answers.begin(), answers.end(), [](const Answer& a) { return a.done(); }); });
  for (std::size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i].text, fmt::format("{}", i + 1));
  EXPECT_EQ(host_.runs(), (std::vector<std::int64_t>{1, 5}));
}

TEST_F(NodeTest, AFullBatchGoesAndTheRestFollows) {
  const VersionPtr v = version(16, 1, 4);
  Answer first;
  occupy(v, first);
  std::vector<Answer> answers(6);
  for (auto& a : answers) ask(v, {1, 1}, a);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return std::all_of(answers.begin(), answers.end(), [](const Answer& a) { return a.done(); }); });
  for (const Answer& a : answers) EXPECT_EQ(a.text, "2");
  EXPECT_EQ(host_.runs(), (std::vector<std::int64_t>{1, 1, 4, 2}));
}

TEST_F(NodeTest, MoreRowsThanABatchTakesGoAlone) {
  const VersionPtr v = version(16, 1, 2);
  Answer a;
  ask(v, {1, 1, 2, 2, 3, 3}, a);
  until([&] { return a.done(); });
  EXPECT_EQ(a.text, "2 4 6");
}

TEST_F(NodeTest, APoisonedRowFailsNoNeighbour) {
  const VersionPtr v = version();
  Answer first, good, bad;
  occupy(v, first);
  ask(v, {1, 2}, good);
  ask(v, {kPoison, 0}, bad);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return good.done() && bad.done() && first.done(); });
  EXPECT_EQ(good.text, "3");
  EXPECT_EQ(bad.text, "poison");
  EXPECT_EQ(host_.runs(), (std::vector<std::int64_t>{1, 1, 2, 1, 1}));
}

TEST_F(NodeTest, OutputsThatAreNotRowByRowEndJoining) {
  const VersionPtr v = version();
  Answer first, a, b;
  occupy(v, first);
  ask(v, {kOneRowOnly, 2}, a);
  ask(v, {1, 2}, b);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return a.done() && b.done() && first.done(); });
  EXPECT_EQ(a.text, "15");
  EXPECT_EQ(b.text, "3");
  EXPECT_TRUE(events_.seen.contains("batching_off"));
}

TEST_F(NodeTest, ADeathIsRetriedApart) {
  const VersionPtr v = version();
  Answer first, a, b;
  occupy(v, first);
  ask(v, {1, 2}, a);
  ask(v, {3, 4}, b);
  io_.restart();
  io_.run_for(5ms);
  host_.die();
  until([&] { return first.done() && a.done() && b.done(); });
  EXPECT_EQ(first.text, "2");
  EXPECT_EQ(a.text, "3");
  EXPECT_EQ(b.text, "7");
}

TEST_F(NodeTest, ACallerWhoGoesLeavesTheQueue) {
  const VersionPtr v = version(1, 1, 1);
  Answer first, gone, kept;
  CancelSignal cancel;
  occupy(v, first);
  ask(v, {1, 2}, gone, &cancel);
  ask(v, {3, 4}, kept);
  io_.restart();
  io_.run_for(5ms);
  EXPECT_EQ(node_.find(*v)->waiting(), 2U);
  cancel.fire();
  until([&] { return gone.done(); });
  EXPECT_EQ(gone.text, "cancelled");
  EXPECT_EQ(node_.find(*v)->waiting(), 1U);
  host_.release();
  until([&] { return kept.done() && first.done(); });
  EXPECT_EQ(kept.text, "7");
  EXPECT_EQ(host_.runs().size(), 3U);
}

TEST_F(NodeTest, ACallerWhoGoesCancelsItsRunAndTheSlotComesBack) {
  const VersionPtr v = version(1, 1, 1);
  Answer warm, gone, next;
  ask(v, {0, 0}, warm);
  until([&] { return warm.done(); });
  host_.hold();
  CancelSignal cancel;
  ask(v, {1, 2}, gone, &cancel);
  io_.restart();
  io_.run_for(5ms);
  host_.await_running();
  cancel.fire();
  until([&] { return gone.done(); });
  EXPECT_EQ(gone.text, "cancelled");
  ask(v, {3, 4}, next);
  host_.release();
  until([&] { return next.done(); });
  EXPECT_EQ(next.text, "7");
  EXPECT_EQ(host_.cancelled(), 1);
}

TEST_F(NodeTest, ABatchIsCancelledWhenItsLastMemberGoes) {
  const VersionPtr v = version();
  Answer warm, a, b, next;
  ask(v, {0, 0}, warm);
  until([&] { return warm.done(); });
  host_.hold();
  CancelSignal first, second;
  ask(v, {1, 2}, a, &first);
  ask(v, {1, 2}, b, &second);
  io_.restart();
  io_.run_for(5ms);
  host_.await_running();
  first.fire();
  until([&] { return a.done(); });
  EXPECT_FALSE(b.done());
  second.fire();
  until([&] { return b.done(); });
  ask(v, {3, 4}, next);
  host_.release();
  until([&] { return next.done(); });
  EXPECT_EQ(next.text, "7");
  EXPECT_EQ(host_.cancelled(), 1);
}

TEST_F(NodeTest, AMemberPastItsDeadlineLeavesTheOthers) {
  const VersionPtr v = version();
  Answer first, late, kept;
  occupy(v, first);
  ask(v, {1, 2}, late, nullptr, 30'000'000);
  ask(v, {3, 4}, kept);
  until([&] { return late.done(); });
  EXPECT_EQ(late.text, "deadline_exceeded");
  EXPECT_FALSE(kept.done());
  host_.release();
  until([&] { return kept.done() && first.done(); });
  EXPECT_EQ(kept.text, "7");
}

TEST_F(NodeTest, ABurstDelaysAnotherKeyByOneOfItsOwn) {
  const VersionPtr v = version(1, 1, 1);
  Answer first, other;
  occupy(v, first);
  std::vector<Answer> burst(20);
  for (auto& a : burst) ask(v, {1, 1}, a, nullptr, 20'000'000'000, 1);
  ask(v, {2, 2}, other, nullptr, 20'000'000'000, 2);
  io_.restart();
  io_.run_for(5ms);
  host_.release();
  until([&] { return other.done(); });
  EXPECT_LE(other.place, 4);  // after the warm-up, the one that ran, and one of the burst
  until([&] { return std::all_of(burst.begin(), burst.end(), [](const Answer& a) { return a.done(); }); });
}

TEST_F(NodeTest, AFullQueueShedsTheBurstAndNotTheNewcomer) {
  const VersionPtr v = version(1, 1, 1, 4);
  Answer first, other;
  occupy(v, first);
  std::vector<Answer> burst(6);
  for (auto& a : burst) ask(v, {1, 1}, a, nullptr, 20'000'000'000, 1);
  io_.restart();
  io_.run_for(5ms);
  EXPECT_EQ(std::count_if(burst.begin(), burst.end(), [](const Answer& a) { return a.text == "queue_full"; }), 2);
  ask(v, {2, 2}, other, nullptr, 20'000'000'000, 2);
  io_.restart();
  io_.run_for(5ms);
  EXPECT_FALSE(other.done());
  EXPECT_EQ(std::count_if(burst.begin(), burst.end(), [](const Answer& a) { return a.text == "queue_full"; }), 3);
  host_.release();
  until([&] {
    return other.done() && std::all_of(burst.begin(), burst.end(), [](const Answer& a) { return a.done(); });
  });
  EXPECT_EQ(other.text, "4");
}

}  // namespace
}  // namespace mayfly
