// What an endpoint's state is and why: /admin/v1/endpoints/NAME/explain, and the node's memory: /admin/v1/node.
#include <map>

#include "gateway/gateway.h"
#include "tensor/json_parse.h"

namespace mayfly {
namespace {

using Json = nlohmann::json;

std::string text(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

struct Counts {
  std::uint32_t starting = 0, ready = 0, busy = 0, parked = 0;
  std::uint64_t idle_for_ms = 0, start_age_ms = 0;  // of the one that is idle, or starting, for the longest time
};

Counts count(const Pool& pool) {
  Counts c;
  const std::uint64_t now = now_ns();
  const auto since = [now](std::uint64_t ns) { return (now - std::min(now, ns)) / 1'000'000; };
  for (const auto& i : pool.instances()) {
    switch (i->phase()) {
      case InstancePhase::kStarting:
        ++c.starting;
        c.start_age_ms = std::max(c.start_age_ms, since(i->spawned_ns()));
        break;
      case InstancePhase::kReady:
        ++c.ready;
        c.busy += i->busy() > 0 ? 1 : 0;
        if (i->busy() == 0) c.idle_for_ms = std::max(c.idle_for_ms, since(i->last_used_ns()));
        break;
      case InstancePhase::kParked:
        ++c.parked;
        break;
      case InstancePhase::kEnding:
      case InstancePhase::kDead:
        break;
    }
  }
  return c;
}

std::string why_zero(const Pool* pool, const VersionRecord* record, const policy::Hold& held) {
  if (pool != nullptr && pool->supplying_since_ns() != 0) {
    return fmt::format(
        "at zero: its artefact was not on the disk, and is being fetched or rebuilt for {} ms; {} requests wait",
        (now_ns() - pool->supplying_since_ns()) / 1'000'000, pool->waiting());
  }
  if (pool != nullptr && pool->lacks_room())
    return "at zero: the node's memory budget is full of what is in use; the next start waits for room";
  const std::uint64_t now = now_ns();
  if (pool != nullptr && pool->backoff_until_ns() > now) {
    return fmt::format("at zero: starts have failed; the next is tried in {} ms",
                       (pool->backoff_until_ns() - now) / 1'000'000);
  }
  if (record == nullptr || record->events.empty())
    return fmt::format("at zero: nobody has asked for it since the server started; held while idle: {}", held.reason);
  for (auto e = record->events.rbegin(); e != record->events.rend(); ++e) {
    if (e->what == "ended" || e->what == "failed")
      return fmt::format("at zero: its last instance {}: {}", e->what == "ended" ? "ended" : "failed", e->detail);
  }
  return "at zero";
}

std::string why(const Pool* pool, const VersionRecord* record, const Counts& c, const policy::Hold& held,
                const Version& v) {
  if (c.busy > 0)
    return fmt::format("{} of {} ready instances work, {} requests wait", c.busy, c.ready, pool->waiting());
  if (c.ready > 0 && c.ready <= held.warm) return fmt::format("{} warm, held by {}", c.ready, held.reason);
  if (c.ready > 0) {
    return fmt::format("{} warm, idle for {} ms; kept for idle = {} ms after a request", c.ready, c.idle_for_ms,
                       v.settings.idle_ms);
  }
  if (c.starting > 0)
    return fmt::format("{} starting for {} ms, {} requests wait", c.starting, c.start_age_ms, pool->waiting());
  if (c.parked > 0) return fmt::format("{} parked, held by {}", c.parked, held.reason);
  return why_zero(pool, record, held);
}

Json events_of(const Endpoint& e, const Node& node) {
  std::multimap<std::uint64_t, std::pair<const NodeEvent*, std::uint32_t>> all;  // by time, then as they came
  for (const auto& [number, s] : e.versions) {
    if (const VersionRecord* r = node.record(*s->version)) {
      for (const NodeEvent& event : r->events) all.emplace(event.unix_ms, std::pair(&event, number));
    }
  }
  while (all.size() > VersionRecord::kKeptEvents) all.erase(all.begin());
  Json out = Json::array();
  for (const auto& [time, at] : all) {
    const auto& [event, number] = at;
    Json row = {{"time", Log::timestamp(event->unix_ms)},
                {"event", event->what},
                {"version", number},
                {"instance", event->instance}};
    if (!event->detail.empty()) row["detail"] = event->detail;
    out.push_back(std::move(row));
  }
  return out;
}

Json memory_json(const NodeMemory& m) {
  return {{"budget_bytes", m.budget},
          {"used_bytes", m.used()},
          {"instances_bytes", m.instances},
          {"artefacts_bytes", m.artefacts},
          {"cached_bytes", m.cached}};
}

// Where artefact and package are, and what a start would take besides to have them here again.
struct Whereabouts {
  Json json;
  std::uint64_t again_ns = 0;
};

Whereabouts where(const Version& v, const Artefacts& artefacts, const RemotePackages* remote) {
  const ArtefactFile known = v.artefact ? *v.artefact : ArtefactFile();
  const bool artefact = artefact_there(v), package = artefacts.package_here(v.package);
  Whereabouts w;
  if (!artefact) w.again_ns += expected_build_ns(known.build_ns);
  if (!artefact && !package && remote != nullptr) w.again_ns += remote->fetch_ns(known.bytes);
  Json a = {{"here", artefact}, {"bytes", known.bytes}, {"build_ms", known.build_ns / 1'000'000}};
  if (!artefact && !known.dropped.empty()) a["dropped"] = known.dropped;
  Json p = {{"here", package}, {"digest", v.package}};
  if (remote != nullptr) {
    p["bucket"] = remote->shown(v.package);
    p["in_bucket"] = remote->known(v.package) ? Json(true) : Json();
  }
  if (!package && !known.package_dropped.empty()) p["dropped"] = known.package_dropped;
  w.json = {{"artefact", std::move(a)}, {"package", std::move(p)}};
  return w;
}

// Milliseconds that the next request waits for an instance, over a warm one's answer; null: not measured.
Json wait_of(std::string_view finds, const VersionRecord* record, std::uint64_t again_ns) {
  if (finds == "warm") return Json(0);
  if (record == nullptr) return {};
  const Measures& m = record->measures;
  const policy::RunTime& t = finds == "parked" ? m.resume : m.start;
  if (!t.measured()) return {};
  const std::uint64_t wait = t.mean_ns() - std::min(t.mean_ns(), m.work.mean_ns()) + (finds == "cold" ? again_ns : 0);
  return static_cast<double>(wait / 1000) / 1000.0;
}

Json counts_json(const VersionRecord* record) {
  const PoolCounters c = record != nullptr ? record->counters : PoolCounters();
  return {{"starts", c.starts},   {"start_failures", c.start_failures}, {"deaths", c.deaths},
          {"resumes", c.resumes}, {"evictions", c.evictions},           {"artefact_supplies", c.supplies}};
}

}  // namespace

void Gateway::explain(RequestContext& c, Response& rs) {
  const Version& v = *c.endpoint->live->version;
  const Pool* pool = node_.find(v);
  const VersionRecord* record = node_.record(v);
  const Counts n = pool != nullptr ? count(*pool) : Counts();
  const policy::Hold held = pool != nullptr ? pool->hold() : policy::Hold{0, 0, "nothing is asked for", true};
  const std::string_view finds = n.ready > 0 ? "warm" : n.parked > 0 ? "parked" : "cold";
  const bool starting = n.starting > 0 || (pool != nullptr && pool->supplying_since_ns() != 0);
  const std::string_view state = n.ready == 0 && n.parked == 0 && starting ? "starting" : finds;
  Whereabouts files = where(v, control_.artefacts(), control_.remote());
  Json out = {{"name", c.endpoint->name},
              {"version", v.number},
              {"state", state},
              {"why", why(pool, record, n, held, v)},
              {"next_request", {{"finds", finds}, {"wait_ms", wait_of(finds, record, files.again_ns)}}},
              {"held", {{"warm", held.warm}, {"parked", held.parked}, {"reason", held.reason}}},
              {"instances", {{"starting", n.starting}, {"ready", n.ready}, {"busy", n.busy}, {"parked", n.parked}}},
              {"queued", pool != nullptr ? pool->waiting() : 0},
              {"counts", counts_json(record)},
              {"events", events_of(*c.endpoint, node_)}};
  if (const std::uint64_t budget = v.settings.cold_start_budget_ms; budget > 0)
    out["cold_start_budget"] = {{"budget_ms", budget}, {"kept", held.within_budget && !(pool && pool->lacks_room())}};
  Json memory = {{"node", memory_json(node_.memory())}};
  if (record != nullptr) {
    memory["instance_bytes"] = record->measures.private_bytes;
    memory["artefact_bytes"] = record->measures.artefact_bytes;
    if (!record->last_eviction.empty()) out["last_eviction"] = record->last_eviction;
  }
  out["memory"] = std::move(memory);
  out["storage"] = std::move(files.json);
  rs.body = text(out);
}

void Gateway::show_node(Response& rs) {
  Counts all;
  for (const auto& [version, pool] : node_.pools()) {
    const Counts n = count(*pool);
    all.starting += n.starting;
    all.ready += n.ready;
    all.busy += n.busy;
    all.parked += n.parked;
  }
  const DiskUse& disk = control_.disk();
  Json files = {{"packages_bytes", disk.packages},
                {"artefacts_bytes", disk.artefacts},
                {"temporary_bytes", disk.temporary},
                {"quota_bytes", disk.quota != 0 ? Json(disk.quota) : Json()},
                {"dropped", disk.dropped}};
  if (control_.remote() != nullptr) files["bucket"] = control_.remote()->shown();
  rs.body = text(
      {{"memory", memory_json(node_.memory())},
       {"disk", std::move(files)},
       {"instances", {{"starting", all.starting}, {"ready", all.ready}, {"busy", all.busy}, {"parked", all.parked}}}});
}

}  // namespace mayfly
