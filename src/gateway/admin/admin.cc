// The admin API under /admin/v1/: packages, endpoints and their versions, instances, logs; keys are in
// admin_keys.cc. /openapi.json (pages.cc) describes it.
#include <charconv>

#include "gateway/gateway.h"
#include "tensor/json_parse.h"

namespace mayfly {
namespace {

using Json = nlohmann::json;

std::string text(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json parse_or_null(std::string_view s) {
  auto j = parse_json_bounded(s);
  return j.ok() ? std::move(*j) : Json();
}

std::string_view instance_state(const Instance& i) {
  switch (i.phase()) {
    case InstancePhase::kStarting:
      return "starting";
    case InstancePhase::kReady:
      return i.busy() > 0 ? "busy" : "idle";
    case InstancePhase::kParked:
      return "parked";
    case InstancePhase::kEnding:
    case InstancePhase::kDead:
      return "ending";
  }
  return "ending";
}

Json instance_row(const Version& v, const Instance& i) {
  const std::uint64_t now = now_ns();
  return {{"id", i.id()},
          {"endpoint", v.endpoint},
          {"version", v.number},
          {"pid", i.pid()},
          {"state", instance_state(i)},
          {"age_ms", (now - i.spawned_ns()) / 1'000'000},
          {"idle_ms", i.busy() > 0 ? 0 : (now - i.last_used_ns()) / 1'000'000},
          {"requests", i.requests()},
          {"tier", i.tier().name()},
          {"memory_bytes", i.memory_bytes()},
          {"private_bytes", i.measured_bytes()}};
}

Json instances_of(const Node& node, const Endpoint& e) {
  Json out = Json::array();
  for (const auto& [number, s] : e.versions) {
    if (const Pool* p = node.find(*s->version)) {
      for (const auto& i : p->instances()) out.push_back(instance_row(p->version(), *i));
    }
  }
  return out;
}

void append_summary(std::string& out, const Node& node, const Endpoint& e) {
  std::uint32_t instances = 0, ready = 0, parked = 0, queued = 0;
  bool supplying = false;
  for (const auto& [number, s] : e.versions) {
    const Pool* p = node.find(*s->version);
    if (p == nullptr) continue;
    queued += p->waiting();
    supplying = supplying || p->supplying_since_ns() != 0;
    for (const auto& i : p->instances()) {
      ++instances;
      ready += i->phase() == InstancePhase::kReady ? 1 : 0;
      parked += i->phase() == InstancePhase::kParked ? 1 : 0;
    }
  }
  const char* state = ready > 0 ? "warm" : parked > 0 ? "parked" : instances > 0 || supplying ? "starting" : "cold";
  fmt::format_to(std::back_inserter(out),
                 R"({{"name":"{}","version":{},"state":"{}","instances":{},"ready":{},"parked":{},"queued":{},)"
                 R"("requests":{},"errors":{},"cold_starts":{},"created_ms":{}}})",
                 e.name, e.live->version->number, state, instances, ready, parked, queued, e.metrics.requests,
                 e.metrics.errors, e.metrics.cold, e.created_ms);
}

std::uint64_t query_number(std::string_view query, std::string_view key, std::uint64_t otherwise) {
  while (!query.empty()) {
    const auto amp = query.find('&');
    const std::string_view pair = query.substr(0, amp);
    query = amp == std::string_view::npos ? "" : query.substr(amp + 1);
    if (pair.substr(0, key.size()) != key || pair.substr(key.size(), 1) != "=") continue;
    std::uint64_t n = otherwise;
    std::from_chars(pair.data() + key.size() + 1, pair.data() + pair.size(), n);
    return n;
  }
  return otherwise;
}

}  // namespace

Task<Ok> Gateway::upload_package(const Request& rq, RequestContext& c, Response& rs) {
  auto fail = [&](const Error& e) { render_error(e, rq.head, rs); };
  auto left = co_await control_.quota_left(c.principal.tenant);
  if (!left.ok()) co_return fail(left.error()), Ok{};
  if (*left == 0) {
    co_return fail(control_.over_quota(c.principal.tenant)), Ok{};
  }
  auto upload = packages_.begin(std::min(*left, control_.options().max_package_bytes));
  if (!upload.ok()) co_return fail(upload.error()), Ok{};
  for (;;) {
    auto piece = co_await rq.reader->next();
    if (!piece.ok()) {
      rs.close = true;  // what else comes of the body is not known
      co_return fail(piece.error()), Ok{};
    }
    if (piece->empty()) break;
    auto write = [&] { return (*upload)->write(*piece); };
    if (auto st = co_await blocking_.run(write); !st.ok()) {
      rs.close = true;
      co_return fail(st.error()), Ok{};
    }
  }
  if ((*upload)->bytes() == 0)
    co_return fail(
        invalid("empty_package", "the body is empty; send the model's bytes, as `curl --data-binary @model.onnx`")),
        Ok{};
  auto digest = co_await control_.accept_package(**upload, c.principal.tenant);
  if (!digest.ok()) co_return fail(digest.error()), Ok{};
  rs.body = fmt::format(R"({{"digest":"{}","bytes":{}}})", *digest, (*upload)->bytes());
  co_return Ok{};
}

Task<Ok> Gateway::deploy(const Request& rq, RequestContext& c, Response& rs) {
  auto parsed = parse_json_bounded(rq.body);
  if (!parsed.ok()) co_return render_error(parsed.error(), rq.head, rs), Ok{};
  Json& body = *parsed;
  const auto has = [&body](const char* key) { return body.is_object() && body.contains(key) && body[key].is_string(); };
  if (has("package") == has("source")) {
    render_error(invalid("malformed_json",
                         "expected {{\"package\": \"<digest>\", \"spec\": {{…}}}}, or \"source\" in place of package"),
                 rq.head, rs);
    co_return Ok{};
  }
  const std::string spec = body.contains("spec") ? text(body["spec"]) : "{}";
  Result<Deployed> deployed = Deployed();
  if (has("source"))
    deployed = co_await control_.deploy_source(c.principal.tenant, c.name, body["source"].get<std::string>(), spec);
  else
    deployed = co_await control_.deploy(c.principal.tenant, c.name, body["package"].get<std::string>(), spec);
  if (!deployed.ok()) {
    render_error(deployed.error(), rq.head, rs);
    co_return Ok{};
  }
  rs.body = text({{"name", c.name},
                  {"version", deployed->served->version->number},
                  {"url", "/v2/models/" + c.name},
                  {"package", deployed->served->package},
                  {"report", parse_or_null(deployed->report_json)}});
  co_return Ok{};
}

// Thousands of rows: written as text. Names need no escaping, check_endpoint_name sees to it.
void Gateway::list_endpoints(RequestContext& c, Response& rs) {
  rs.body = "{\"endpoints\":[";
  for (const EndpointPtr& e : control_.all()) {
    if (e->tenant != c.principal.tenant) continue;
    if (rs.body.back() != '[') rs.body += ',';
    append_summary(rs.body, node_, *e);
  }
  rs.body += "]}";
}

Task<Ok> Gateway::show_endpoint(const Request& rq, RequestContext& c, Response& rs) {
  auto rows = co_await control_.stored_versions(c.endpoint->tenant, c.endpoint->name);
  if (!rows.ok()) co_return render_error(rows.error(), rq.head, rs), Ok{};
  std::string head;
  append_summary(head, node_, *c.endpoint);
  Json out = Json::parse(head);
  Json versions = Json::array();
  for (const VersionRow& row : *rows) {
    if (!c.endpoint->versions.contains(row.number)) continue;
    versions.push_back({{"number", row.number},
                        {"package", row.package},
                        {"created_ms", row.created_ms},
                        {"spec", parse_or_null(row.settings_json)},
                        {"report", parse_or_null(row.report_json)}});
  }
  out["versions"] = versions;
  out["instances"] = instances_of(node_, *c.endpoint);
  rs.body = text(out);
  co_return Ok{};
}

void Gateway::list_instances(RequestContext& c, Response& rs) {
  Json rows = Json::array();
  for (const auto& [version, pool] : node_.pools()) {
    if (version->tenant != c.principal.tenant) continue;
    for (const auto& i : pool->instances()) rows.push_back(instance_row(*version, *i));
  }
  rs.body = text({{"instances", rows}});
}

Task<Ok> Gateway::admin(const Request& rq, RequestContext& c, Response& rs) {
  switch (c.spec->route) {
    case Route::kPackages:
      co_return co_await upload_package(rq, c, rs);
    case Route::kVersions:
      co_return co_await deploy(rq, c, rs);
    case Route::kKeyList:
    case Route::kKeyCreate:
    case Route::kKeyRevoke:
    case Route::kKeyLimit:
      co_return co_await keys(rq, c, rs);
    case Route::kEndpoints:
      list_endpoints(c, rs);
      break;
    case Route::kEndpoint:
      co_return co_await show_endpoint(rq, c, rs);
    case Route::kInstances:
      list_instances(c, rs);
      break;
    case Route::kEndpointExplain:
      explain(c, rs);
      break;
    case Route::kEndpointWake:
      node_.wake(c.endpoint->live->version, static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                                query_number(rq.head->query, "instances", 1), 1000)));
      append_summary(rs.body, node_, *c.endpoint);
      break;
    case Route::kNode:
      show_node(rs);
      break;
    case Route::kEndpointLogs:
      rs.body = text({{"lines", log_.tail(c.name, query_number(rq.head->query, "tail", 100))}});
      break;
    default: {  // kEndpointDelete
      auto st = co_await control_.remove(c.principal.tenant, c.name);
      if (!st.ok())
        render_error(st.error(), rq.head, rs);
      else
        rs.body = text({{"deleted", c.name}});
    }
  }
  co_return Ok{};
}

}  // namespace mayfly
