#include "gateway/gateway.h"

#include <algorithm>
#include <charconv>

#include "crypto/hash.h"
#include "gateway/origin.h"
#include "tensor/json.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kSmallBody = 1 << 20;  // admin requests; specifications hold label lists
constexpr std::uint64_t kSpecBody = 64 << 20;
constexpr std::size_t kMaxRequestId = 128;
constexpr std::uint64_t kAdminBodyNs = 60'000'000'000;  // for the body of an admin request; uploads take their time

std::string_view next_segment(std::string_view& rest) {
  const auto slash = rest.find('/');
  const std::string_view segment = rest.substr(0, slash);
  rest = slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1);
  return segment;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void percent_decode(std::string_view in, std::string& out) {
  out.clear();
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (in[i] == '%' && i + 2 < in.size() && hex_digit(in[i + 1]) >= 0 && hex_digit(in[i + 2]) >= 0) {
      out += static_cast<char>(hex_digit(in[i + 1]) * 16 + hex_digit(in[i + 2]));
      i += 2;
    } else {
      out += in[i];
    }
  }
}

bool printable(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return c > ' ' && c < 127 && c != '"' && c != '\\'; });
}

Error no_route(std::string_view path) {
  return make_error(Code::kNotFound, "no_such_path", "nothing is served at {}; see /openapi.json", path);
}

Error wrong_method(std::string_view method, std::string_view path) {
  return make_error(Code::kInvalidArgument, "method_not_allowed", "{} is not possible on {}; see /openapi.json", method,
                    path);
}

// Which methods a route takes, as the header Allow says it.
std::string_view allowed_methods(Route route) {
  switch (route) {
    case Route::kInfer:
    case Route::kPackages:
    case Route::kVersions:
      return "POST";
    case Route::kPredictions:
      return "POST, PUT";  // curl -T sends PUT
    case Route::kKeys:
      return "GET, POST";
    case Route::kKey:
      return "DELETE, PATCH";
    case Route::kEndpoint:
      return "GET, DELETE";
    default:
      return "GET, HEAD";
  }
}

bool method_fits(Route route, std::string_view method) {
  std::string_view allowed = allowed_methods(route);
  for (;;) {
    const auto comma = allowed.find(", ");
    if (allowed.substr(0, comma) == method) return true;
    if (comma == std::string_view::npos) return false;
    allowed.remove_prefix(comma + 2);
  }
}

Scope needed_scope(const RequestContext& c) {
  switch (c.route) {
    case Route::kPackages:
    case Route::kVersions:
    case Route::kEndpoints:
    case Route::kInstances:
    case Route::kEndpointLogs:
    case Route::kEndpoint:
      return kDeploy;
    case Route::kKeys:
    case Route::kKey:
    case Route::kMetrics:
      return kAdmin;
    default:
      return kInvoke;
  }
}

bool is_public(Route r) {
  return r == Route::kLive || r == Route::kReady || r == Route::kServerInfo || r == Route::kOpenApi;
}

}  // namespace

Gateway::Gateway(GatewayOptions options, Control& control, Node& node, KeyRing& keys, Store& store,
                 PackageStore& packages, BlockingPool& blocking, Log& log)
    : options_(std::move(options)),
      control_(control),
      node_(node),
      keys_(keys),
      store_(store),
      packages_(packages),
      blocking_(blocking),
      log_(log) {
  for (char c : random_token(11)) id_base_ = id_base_ * 62 + static_cast<std::uint64_t>(c);
}

RequestContext* Gateway::take_context() {
  if (free_contexts_.empty()) {
    contexts_.push_back(std::make_unique<RequestContext>());
    free_contexts_.push_back(contexts_.back().get());
  }
  RequestContext* c = free_contexts_.back();
  free_contexts_.pop_back();
  return c;
}

void Gateway::give_back(RequestContext* c) {
  c->key_use.end(c->key_use.timed() ? now_ns() : 0);
  c->endpoint.reset();
  c->served.reset();
  c->phases = {};
  free_contexts_.push_back(c);
}

void Gateway::on_abort(void* cookie) {
  if (cookie != nullptr) give_back(static_cast<RequestContext*>(cookie));
}

void Gateway::render_error(const Error& error, const RequestHead* head, Response& rs) {
  static_cast<void>(head);
  render_error(error, rs);
}

void Gateway::render_error(const Error& error, Response& rs) {
  rs.status = error.reason == "body_timeout" ? 408 : http_status(error);
  rs.content_type = "application/json";
  rs.body.assign("{\"error\":");
  append_json_string(rs.body, error.message);
  rs.body += '}';
  fmt::format_to(std::back_inserter(rs.headers), "Mayfly-Reason: {}\r\n", error.reason);
  if (rs.status == 429 || rs.status == 503)
    fmt::format_to(std::back_inserter(rs.headers), "Retry-After: {}\r\n", error.retry_after_s);
  if (rs.status == 401) rs.headers += "WWW-Authenticate: Bearer\r\n";
}

Status Gateway::find_endpoint(RequestContext& c, std::string_view version) {
  c.endpoint = control_.find(c.principal.tenant, c.name);
  if (!c.endpoint) {
    return make_error(Code::kNotFound, "model_not_found", "no model \"{}\"; `mayfly list` shows what is deployed",
                      c.name);
  }
  c.served = c.endpoint->live;
  if (version.empty()) return Ok{};
  std::uint32_t number = 0;
  const auto [end, ec] = std::from_chars(version.data(), version.data() + version.size(), number);
  auto it = c.endpoint->versions.find(number);
  if (ec != std::errc() || end != version.data() + version.size() || it == c.endpoint->versions.end()) {
    return make_error(Code::kNotFound, "version_not_found",
                      "model \"{}\" has no version \"{}\"; its live version is {}", c.name, version,
                      c.served->version->number_text);
  }
  c.served = it->second;
  return Ok{};
}

// rest: what follows /v2/models/
Status Gateway::resolve_model(std::string_view rest, RequestContext& c) {
  const std::string_view whole = rest;
  percent_decode(next_segment(rest), c.name);
  std::string_view version;
  if (rest.substr(0, 9) == "versions/") {
    rest.remove_prefix(9);
    version = next_segment(rest);
  }
  if (rest.empty())
    c.route = Route::kModelMetadata;
  else if (rest == "ready")
    c.route = Route::kModelReady;
  else if (rest == "infer")
    c.route = Route::kInfer;
  else
    return no_route(whole);
  return find_endpoint(c, version);
}

// rest: what follows /admin/v1/
Status Gateway::resolve_admin(std::string_view rest, RequestContext& c) {
  const std::string_view whole = rest;
  const std::string_view kind = next_segment(rest);
  if (kind == "packages" && rest.empty())
    c.route = Route::kPackages;
  else if (kind == "instances" && rest.empty())
    c.route = Route::kInstances;
  else if (kind == "endpoints" && rest.empty())
    c.route = Route::kEndpoints;
  else if (kind == "keys" && rest.empty())
    c.route = Route::kKeys;
  else if (kind == "keys" || kind == "endpoints") {
    percent_decode(next_segment(rest), c.name);
    if (kind == "keys" && rest.empty())
      c.route = Route::kKey;
    else if (kind == "endpoints" && rest.empty())
      c.route = Route::kEndpoint;
    else if (kind == "endpoints" && rest == "versions")
      c.route = Route::kVersions;
    else if (kind == "endpoints" && rest == "logs")
      c.route = Route::kEndpointLogs;
    else
      return no_route(whole);
  } else {
    return no_route(whole);
  }
  if (c.route == Route::kEndpoint || c.route == Route::kEndpointLogs) return find_endpoint(c, "");
  return Ok{};
}

Status Gateway::resolve(const RequestHead& head, RequestContext& c) {
  std::string_view path = head.path;
  auto under = [&](std::string_view prefix) {
    if (path.substr(0, prefix.size()) != prefix) return false;
    path.remove_prefix(prefix.size());
    return true;
  };
  if (path == "/v2" || path == "/v2/")
    c.route = Route::kServerInfo;
  else if (path == "/v2/health/live")
    c.route = Route::kLive;
  else if (path == "/v2/health/ready")
    c.route = Route::kReady;
  else if (path == "/v2/models" || path == "/v2/models/")
    c.route = Route::kModelList;
  else if (path == "/metrics")
    c.route = Route::kMetrics;
  else if (path == "/openapi.json")
    c.route = Route::kOpenApi;
  else if (under("/v2/models/"))
    return resolve_model(path, c);
  else if (under("/admin/v1/"))
    return resolve_admin(path, c);
  else if (under("/predictions/")) {
    c.route = Route::kPredictions;
    percent_decode(next_segment(path), c.name);
    return find_endpoint(c, path);
  } else {
    return no_route(head.path);
  }
  return Ok{};
}

BodyPolicy Gateway::policy_of(RequestContext& c, std::uint64_t received_ns) {
  BodyPolicy p;
  p.max_bytes = kSmallBody;
  p.deadline_ns = received_ns + kAdminBodyNs;
  switch (c.route) {
    case Route::kInfer:
    case Route::kPredictions: {
      const NodeSettings& s = c.served->version->settings;
      // JSON text takes up to about 8 times the space of its numbers.
      p.max_bytes = std::max<std::uint64_t>(kSmallBody, s.max_request_bytes * (c.route == Route::kInfer ? 8 : 1));
      c.deadline_ns = p.deadline_ns = received_ns + s.timeout_ms * 1'000'000;
      node_.wake(c.served->version);
      break;
    }
    case Route::kPackages:
      p.max_bytes = control_.options().max_package_bytes;
      p.streaming = true;
      p.deadline_ns = 0;
      break;
    case Route::kVersions:
      p.max_bytes = kSpecBody;
      break;
    default:
      break;
  }
  return p;
}

BodyPolicy Gateway::on_head(const Request& request, void*& cookie) {
  const RequestHead& head = *request.head;
  RequestContext* c = take_context();
  c->method = head.method;
  auto refuse = [&](Error e) {
    give_back(c);
    cookie = nullptr;
    BodyPolicy p;
    p.refuse = std::move(e);
    return p;
  };
  auto principal = keys_.authenticate(head.header("authorization"), head.header("x-api-key"));
  if (principal.ok())
    c->principal = std::move(*principal);
  else
    c->principal = Principal{};
  if (principal.ok() && c->principal.key_id.empty()) {
    if (auto st = check_origin(head); !st.ok()) return refuse(st.error());
  }
  Status found = resolve(head, *c);
  const bool route_known = found.ok() || found.error().reason != "no_such_path";
  // Who may not ask learns nothing of what there is.
  if (!principal.ok() && !(route_known && is_public(c->route))) return refuse(principal.error());
  if (!found.ok()) return refuse(found.error());
  if (!method_fits(c->route, head.method_text)) {
    const std::string_view allowed = allowed_methods(c->route);
    BodyPolicy p = refuse(wrong_method(head.method_text, head.path));
    p.refuse_headers = fmt::format("Allow: {}\r\n", allowed);
    return p;
  }
  if (principal.ok() && !is_public(c->route)) {
    if (auto st = KeyRing::require(c->principal, needed_scope(*c)); !st.ok()) return refuse(st.error());
  }
  if (auto st = begin_use(*c, request.received_ns); !st.ok()) return refuse(st.error());
  const std::string_view id = head.header("x-request-id");
  if (!id.empty() && id.size() <= kMaxRequestId && printable(id))
    c->request_id.assign(id);
  else {
    c->request_id.clear();
    fmt::format_to(std::back_inserter(c->request_id), "{:016x}", id_base_ + 0x9E3779B97F4A7C15ULL * ++id_next_);
  }
  cookie = c;
  return policy_of(*c, request.received_ns);
}

Task<Ok> Gateway::dispatch(const Request& rq, RequestContext& c, Response& rs) {
  switch (c.route) {
    case Route::kInfer:
      co_return co_await infer(rq, c, rs);
    case Route::kPredictions:
      co_return co_await predictions(rq, c, rs);
    case Route::kMetrics:
      metrics_page(rs);
      break;
    case Route::kOpenApi:
      open_api(rs);
      break;
    case Route::kServerInfo:
    case Route::kLive:
    case Route::kReady:
    case Route::kModelList:
    case Route::kModelMetadata:
    case Route::kModelReady:
      oip_page(c, rs);
      break;
    default:
      co_return co_await admin(rq, c, rs);
  }
  co_return Ok{};
}

Task<Ok> Gateway::handle(const Request& rq, void* cookie, Response& rs) {
  auto* c = static_cast<RequestContext*>(cookie);
  fmt::format_to(std::back_inserter(rs.headers), "X-Request-Id: {}\r\n", c->request_id);
  co_await dispatch(rq, *c, rs);
  give_back(c);
  co_return Ok{};
}

// Metrics, the log line and the Server-Timing header: the same numbers in all three.
void Gateway::finish_predict(const Request& rq, RequestContext& c, Response& rs, const Status& status) {
  Phases& p = c.phases;
  p.total = now_ns() - rq.received_ns;
  if (!status.ok()) render_error(status.error(), rs);
  auto ms = [](std::uint64_t ns) { return static_cast<double>(ns) * 1e-6; };
  EndpointMetrics& m = c.endpoint->metrics;
  ++m.requests;
  m.errors += status.ok() ? 0 : 1;
  m.rejected += rs.status == 429 ? 1 : 0;
  m.total.add_ns(p.total);
  m.queue.add_ns(p.queue);
  if (status.ok()) m.infer.add_ns(p.infer);
  if (p.cold) {
    ++m.cold;
    m.start.add_ns(p.fork + p.map + p.init);
  }
  auto header = std::back_inserter(rs.headers);
  if (p.cold) {
    fmt::format_to(header,
                   "Server-Timing: start;desc=cold, queue;dur={:.3f}, fork;dur={:.3f}, map;dur={:.3f}, "
                   "init;dur={:.3f}, infer;dur={:.3f}, total;dur={:.3f}\r\n",
                   ms(p.queue), ms(p.fork), ms(p.map), ms(p.init), ms(p.infer), ms(p.total));
  } else {
    fmt::format_to(header, "Server-Timing: start;desc=warm, queue;dur={:.3f}, infer;dur={:.3f}, total;dur={:.3f}\r\n",
                   ms(p.queue), ms(p.infer), ms(p.total));
  }
  std::string line;
  line.reserve(384);
  auto out = std::back_inserter(line);
  fmt::format_to(
      out,
      R"({{"time":"{}","event":"request","id":"{}","tenant":"{}","key":"{}","endpoint":"{}","version":{},"status":{},)",
      Log::timestamp(), c.request_id, c.principal.tenant, c.principal.key_id, c.endpoint->name,
      c.served->version->number_text, rs.status);
  if (!status.ok()) fmt::format_to(out, R"("reason":"{}",)", status.error().reason);
  fmt::format_to(
      out,
      R"("start":"{}","queue_ms":{:.3f},"fork_ms":{:.3f},"map_ms":{:.3f},"init_ms":{:.3f},"infer_ms":{:.3f},"total_ms":{:.3f},"in_bytes":{},"out_bytes":{}}})",
      p.cold ? "cold" : "warm", ms(p.queue), ms(p.fork), ms(p.map), ms(p.init), ms(p.infer), ms(p.total),
      rq.body.size(), rs.body.size());
  log_.request(c.endpoint->name, std::move(line));
}

}  // namespace mayfly
