#include "node/node.h"

#include <algorithm>

namespace mayfly {
namespace {
constexpr auto kBusyTick = std::chrono::milliseconds(5);
constexpr auto kIdleTick = std::chrono::milliseconds(200);
}  // namespace

Pool& Node::pool(const VersionPtr& version) {
  auto& p = pools_[version.get()];
  if (!p) p = std::make_unique<Pool>(executor_, launcher_, record_of(version), *this);
  return *p;
}

VersionRecord& Node::record_of(const VersionPtr& version) {
  auto& r = records_[version.get()];
  if (!r) r = std::make_unique<VersionRecord>(version);
  return *r;
}

const VersionRecord* Node::record(const Version& version) const {
  auto it = records_.find(&version);
  return it == records_.end() ? nullptr : it->second.get();
}

Measures Node::measure(const Version& version) {
  auto it = records_.find(&version);
  if (it == records_.end()) return {};
  Measures& m = it->second->measures;
  if (const Pool* p = find(version)) {
    for (const auto& i : p->instances()) {
      i->measure(now_ns());
      m.private_bytes = std::max(m.private_bytes, i->measured_bytes());
    }
  }
  return m;
}

void Node::learn(const VersionPtr& version, const Measures& measures) { record_of(version).measures = measures; }

void Node::on_event(VersionRecord& record, std::uint64_t instance, std::string_view event, std::string_view detail) {
  record.note({unix_ms(), instance, std::string(event), std::string(detail)});
  observer_.on_instance_event(*record.version, instance, event, detail);
}

void Node::forget_artefact(std::string_view path) {
  for (auto& [version, record] : records_) {
    if (version->artefact_path == path) record->artefact_cached = false;
  }
}

const Pool* Node::find(const Version& version) const {
  auto it = pools_.find(&version);
  return it == pools_.end() ? nullptr : it->second.get();
}

Task<Result<Lease>> Node::acquire(VersionPtr version, Ask ask) {
  if (closing_)
    co_return make_error(Code::kUnavailable, "server_stopping", "the server is stopping; try again in a moment");
  Pool& p = pool(version);
  arm();
  co_return co_await p.acquire(ask);
}

Status Node::admit(const VersionPtr& version, const Ask& ask, std::uint64_t now) {
  auto it = pools_.find(version.get());
  return it == pools_.end() ? Status(Ok{}) : it->second->admit(ask, now);
}

void Node::settle(const Version& version, std::uint64_t flow, std::uint64_t charged_ns, std::uint64_t actual_ns) {
  if (auto it = pools_.find(&version); it != pools_.end()) it->second->settle(flow, charged_ns, actual_ns);
}

void Node::expect(const VersionPtr& version) {
  if (closing_) return;
  Pool& p = pool(version);
  p.wake(1);
  p.expect();
  arm();
}

void Node::wake(const VersionPtr& version, std::uint32_t instances) {
  if (closing_) return;
  pool(version).wake(instances);
  arm();
}

void Node::keep(const VersionPtr& version) {
  if (!Pool::holds_something(*version)) return;
  pool(version).keep();
  arm();
}

void Node::retire(const Version& version) {
  if (auto it = pools_.find(&version); it != pools_.end()) {
    it->second->retire();
    arm();
  } else {
    records_.erase(&version);
  }
}

void Node::end_idle(const Version& version) {
  if (auto it = pools_.find(&version); it != pools_.end()) it->second->end_idle("unloaded");
  arm();
}

void Node::arm() {
  if (armed_) {
    if (slow_) timer_.cancel();  // something happens: leave the slow tick
    return;
  }
  armed_ = true;
  asio::co_spawn(executor_, run_timer(), asio::detached);
}

Task<void> Node::run_timer() {
  while (!pools_.empty()) {
    const bool urgent = std::any_of(pools_.begin(), pools_.end(), [](const auto& p) { return p.second->urgent(); });
    slow_ = !urgent;
    timer_.expires_after(urgent ? kBusyTick : kIdleTick);
    const auto [ec] = co_await timer_.async_wait(use_result);
    slow_ = false;
    const std::uint64_t now = now_ns(), due = to_ns(timer_.expiry());
    if (!ec && urgent) lag_.observe(now - std::min(now, due));
    for (auto& [version, p] : pools_) p->tick(now);
    std::erase_if(pools_, [this](const auto& p) {
      if (!p.second->forgettable()) return false;
      if (p.second->retired()) records_.erase(p.first);  // after the pool, which refers to it
      return true;
    });
  }
  armed_ = false;
}

Task<Ok> Node::close(std::uint64_t grace_until_ns) {
  closing_ = true;
  for (auto& [version, p] : pools_) p->close();
  Timer wait(executor_);
  for (;;) {
    bool busy = false, any = false;
    for (auto& [version, p] : pools_) {
      busy = busy || p->urgent();
      any = any || !p->instances().empty();
    }
    if (!any) break;
    if (!busy || now_ns() >= grace_until_ns) {
      for (auto& [version, p] : pools_) p->end_all("server stops");
    }
    if (now_ns() >= grace_until_ns + 2'000'000'000) break;
    wait.expires_after(std::chrono::milliseconds(5));
    co_await wait.async_wait(use_result);
  }
  co_return Ok{};
}

}  // namespace mayfly
