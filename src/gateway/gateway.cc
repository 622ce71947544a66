#include "gateway/predict.h"

#include "base/text.h"

#include <algorithm>
#include <charconv>

#include "crypto/hash.h"
#include "gateway/grpc/status.h"
#include "gateway/origin.h"
#include "gateway/sagemaker/keys.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kSmallBody = 1 << 20;  // admin requests; specifications hold label lists
constexpr std::uint64_t kSpecBody = 64 << 20;
constexpr std::size_t kMaxRequestId = 128;
constexpr std::uint64_t kAdminBodyNs = 60'000'000'000;  // for the body of an admin request; uploads take their time

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
      log_(log),
      shared_memory_(std::move(options_.shared_memory)) {
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
  c->grpc.method = nullptr;
  c->cancel = nullptr;
  c->priority = 0;
  free_contexts_.push_back(c);
}

void Gateway::on_abort(void* cookie) {
  if (cookie != nullptr) give_back(static_cast<RequestContext*>(cookie));
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

Status Gateway::resolve(const RequestHead& head, const RouteMatch& match, RequestContext& c) {
  if (match.spec == nullptr) return no_route(head.path);
  percent_decode(match.name, c.name);
  percent_decode(match.part, c.part);
  if (!match.method_fits) return wrong_method(head.method_text, head.path);
  if (match.spec->needs == Needs::kNothing) return Ok{};
  if (match.spec->room == Room::kSageMaker) return find_invoked(head, c);
  MAYFLY_TRY(find_endpoint(c, match.version));
  return match.spec->room == Room::kV1 && !match.part.empty() ? find_label(c, c.part) : Ok{};
}

// A prediction of it is on its way: its instance starts, or wakes, meanwhile.
void Gateway::expect(RequestContext& c, std::uint64_t received_ns) {
  node_.expect(c.served->version);
  if (c.served->settings.wake_on_connection) arrivals_.note(c.peer, c.principal.tenant, c.name, received_ns);
}

void Gateway::on_connect(std::uint64_t peer) {
  if (arrivals_.peers() == 0) return;
  for (const Arrivals::Name* name : arrivals_.connected(peer, now_ns())) {
    const EndpointPtr e = control_.find(name->tenant, name->name);
    if (!e || !e->live->settings.wake_on_connection) continue;
    ++e->metrics.connection_wakes;
    node_.wake(e->live->version);
  }
}

BodyPolicy Gateway::policy_of(RequestContext& c, std::uint64_t received_ns) {
  BodyPolicy p;
  p.max_bytes = kSmallBody;
  p.deadline_ns = received_ns + kAdminBodyNs;
  if (c.spec->needs == Needs::kPrediction) {
    const NodeSettings& s = c.served->version->settings;
    // JSON text takes up to about 8 times the space of its numbers.
    p.max_bytes =
        std::max<std::uint64_t>(kSmallBody, s.max_request_bytes * (c.spec->route == Route::kPredictions ? 1 : 8));
    c.deadline_ns = p.deadline_ns = received_ns + s.timeout_ms * 1'000'000;
    if (Status st = node_.admit(c.served->version, ask_of(c), received_ns); !st.ok())
      p.refuse = std::move(st.error());
    else
      expect(c, received_ns);
  } else if (c.spec->route == Route::kPackages) {
    p.max_bytes = control_.options().max_package_bytes;
    p.streaming = true;
    p.deadline_ns = 0;
  } else if (c.spec->route == Route::kVersions) {
    p.max_bytes = kSpecBody;
  }
  return p;
}

// A caller's own id where it sends a usable one, and the trace that it belongs to.
void Gateway::name_request(const RequestHead& head, RequestContext& c) {
  const std::string_view id = head.header("x-request-id");
  c.request_id.clear();
  if (!id.empty() && id.size() <= kMaxRequestId && printable(id))
    c.request_id.assign(id);
  else
    append_hex16(c.request_id, id_base_ + 0x9E3779B97F4A7C15ULL * ++id_next_);
  read_traceparent(head.header("traceparent"), id_base_ + 0xD1B54A32D192ED03ULL * ++id_next_ | 1, c.trace);
}

BodyPolicy Gateway::on_head(const Request& request, void*& cookie) {
  const RequestHead& head = *request.head;
  if (grpc::is_grpc(head)) return grpc_on_head(request, cookie);
  RequestContext* c = take_context();
  c->peer = request.peer;
  auto refuse = [&](Error e) {
    give_back(c);
    cookie = nullptr;
    BodyPolicy p;
    p.refuse = std::move(e);
    return p;
  };
  auto principal = keys_.authenticate(head.header("authorization"),
                                      dialect_of(head.path) == Dialect::kSageMaker && head.header("x-api-key").empty()
                                          ? sagemaker_key(head)
                                          : head.header("x-api-key"));
  if (principal.ok())
    c->principal = std::move(*principal);
  else
    c->principal = Principal{};
  if (principal.ok() && c->principal.key_id.empty()) {
    if (auto st = check_origin(head); !st.ok()) return refuse(st.error());
  }
  const RouteMatch match = match_route(head.method_text, head.path);
  const bool is_public = match.spec != nullptr && match.spec->scope == kPublic;
  // Who may not ask learns nothing of what there is.
  if (!principal.ok() && !is_public) return refuse(principal.error());
  c->spec = match.spec;
  if (Status found = resolve(head, match, *c); !found.ok()) {
    BodyPolicy p = refuse(std::move(found.error()));
    if (match.spec != nullptr && !match.method_fits)
      p.refuse_headers = fmt::format("Allow: {}\r\n", allowed_methods(*match.spec));
    return p;
  }
  if (!is_public) {
    if (auto st = KeyRing::require(c->principal, static_cast<Scope>(match.spec->scope)); !st.ok())
      return refuse(st.error());
  }
  name_request(head, *c);
  if (match.spec->needs == Needs::kPrediction) {
    if (auto st = begin_use(*c, request.received_ns); !st.ok()) return refuse(std::move(st.error()));
  }
  BodyPolicy policy = policy_of(*c, request.received_ns);
  if (policy.refuse) {
    if (is_refusal(*policy.refuse)) c->key_use.give_back();
    note_refusal(*c, *policy.refuse, request.received_ns);
    return refuse(std::move(*policy.refuse));
  }
  policy.caller = c->principal.flow();
  cookie = c;
  return policy;
}

Task<Ok> Gateway::dispatch(const Request& rq, RequestContext& c, Response& rs) {
  if (c.grpc.method != nullptr) {
    const bool infers = c.grpc.method->rpc == grpc::Rpc::kModelInfer;
    co_return co_await (infers ? grpc_infer(rq, c, rs) : grpc_call(rq, c, rs));
  }
  switch (c.spec->room) {
    case Room::kOip:
      co_return co_await oip(rq, c, rs);
    case Room::kTorchServe:
      co_return co_await torchserve(rq, c, rs);
    case Room::kAdmin:
      co_return co_await admin(rq, c, rs);
    case Room::kV1:
      co_return co_await v1(rq, c, rs);
    case Room::kSageMaker:
      co_return co_await invocations(rq, c, rs);
    case Room::kPages:
      if (c.spec->route == Route::kMetrics)
        metrics_page(rs);
      else
        open_api(rs);
  }
  co_return Ok{};
}

Task<Ok> Gateway::handle(const Request& rq, void* cookie, Response& rs) {
  auto* c = static_cast<RequestContext*>(cookie);
  c->cancel = rq.cancel;
  c->phases.receive = now_ns() - rq.received_ns;
  rs.headers.append("X-Request-Id: ").append(c->request_id).append("\r\n");
  co_await dispatch(rq, *c, rs);
  give_back(c);
  co_return Ok{};
}

}  // namespace mayfly
