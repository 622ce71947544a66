// gRPC calls of one message each way: who may make them, ModelInfer, and the pages of grpc/pages.h. The model is named
// in the message, so its instance is asked for when the message has come, not at the head as in the REST dialects.
#include <algorithm>

#include "gateway/grpc/frame.h"
#include "gateway/grpc/status.h"
#include "gateway/origin.h"
#include "gateway/predict.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kSmallMessage = 1 << 20;   // of every method but the inferring ones
constexpr std::uint64_t kTypedFactor = 10;         // an INT8 below zero takes that many bytes in typed form
constexpr std::uint64_t kBodyNs = 60'000'000'000;  // for the message of a call that sets no time

std::uint64_t later(std::uint64_t from_ns, std::uint64_t by_ns) {
  return by_ns > ~from_ns ? ~std::uint64_t{0} : from_ns + by_ns;
}

Error no_cuda() {
  return make_error(Code::kUnimplemented, "not_supported",
                    "CUDA shared memory is not supported: models run on processors");
}

}  // namespace

BodyPolicy Gateway::grpc_on_head(const Request& request, void*& cookie) {
  RequestContext* c = take_context();
  c->peer = request.peer;
  BodyPolicy p;
  if (Status admitted = grpc_admit(request, *c); !admitted.ok()) {
    give_back(c);
    cookie = nullptr;
    p.refuse = std::move(admitted.error());
    return p;
  }
  name_request(*request.head, *c);
  p.caller = c->principal.flow();
  cookie = c;
  const grpc::MethodInfo& method = *c->grpc.method;
  c->deadline_ns = c->grpc.timeout_ns ? later(request.received_ns, *c->grpc.timeout_ns) : 0;
  p.streaming = method.client_streams;
  if (p.streaming) {
    p.may_pause = true;
    p.max_bytes = ~std::uint64_t{0};  // each message has its limit; a stream has none
    p.deadline_ns = c->deadline_ns;
  } else {
    const bool infers = method.rpc == grpc::Rpc::kModelInfer;
    p.max_bytes = (infers ? largest_grpc_message() : kSmallMessage) + grpc::kPrefixBytes;
    p.deadline_ns =
        std::min(later(request.received_ns, kBodyNs), c->grpc.timeout_ns ? c->deadline_ns : ~std::uint64_t{0});
  }
  return p;
}

Status Gateway::grpc_admit(const Request& request, RequestContext& c) {
  const RequestHead& head = *request.head;
  if (request.http_major < 2) {
    return invalid("http2_required",
                   "gRPC needs HTTP/2; this request came by HTTP/1: use a gRPC client, or the REST API");
  }
  auto principal = keys_.authenticate(head.header("authorization"), head.header("x-api-key"));
  c.principal = principal.ok() ? std::move(*principal) : Principal{};
  if (principal.ok() && c.principal.key_id.empty()) MAYFLY_TRY(check_origin(head));
  const Status read = grpc::read_call(head, c.grpc);
  const bool open = c.grpc.method != nullptr && c.grpc.method->access == grpc::Access::kPublic;
  // Who may not ask learns nothing of what there is.
  if (!principal.ok() && !open) return std::move(principal.error());
  MAYFLY_TRY(read);
  if (open) return Ok{};
  return KeyRing::require(c.principal, c.grpc.method->access == grpc::Access::kDeploy ? kDeploy : kInvoke);
}

// What a ModelInferRequest of any endpoint may take. Which endpoint it is for stands inside; that one's own limit is
// checked when the tensors are read.
std::uint64_t Gateway::largest_grpc_message() {
  if (largest_message_at_ != control_.changes()) {
    largest_message_at_ = control_.changes();
    largest_message_ = kSmallMessage;
    for (const EndpointPtr& e : control_.all()) {
      for (const auto& [number, served] : e->versions) {
        largest_message_ = std::max(largest_message_, served->version->settings.max_request_bytes * kTypedFactor);
      }
    }
    largest_message_ = std::min(largest_message_, kMaxGrpcMessage);
  }
  return largest_message_;
}

// Reads which model the message is for, and sets the deadline of its prediction: the earliest of the call's, the
// endpoint's and the message's own.
Status Gateway::grpc_find_model(std::string_view message, std::uint64_t received_ns, RequestContext& c) {
  c.endpoint.reset();
  c.served.reset();
  MAYFLY_TRY(scan_infer_grpc(message, c.grpc.infer));
  c.name.assign(c.grpc.infer.model_name);
  MAYFLY_TRY(find_endpoint(c, c.grpc.infer.model_version));
  MAYFLY_TRY(begin_use(c, received_ns));
  c.priority = c.grpc.infer.priority;
  c.deadline_ns = later(received_ns, c.served->version->settings.timeout_ms * 1'000'000);
  if (c.grpc.timeout_ns) c.deadline_ns = std::min(c.deadline_ns, later(received_ns, *c.grpc.timeout_ns));
  constexpr std::uint64_t kMaxMicroseconds = ~std::uint64_t{0} / 1000;
  if (const std::uint64_t us = std::min(c.grpc.infer.timeout_us, kMaxMicroseconds); us > 0)
    c.deadline_ns = std::min(c.deadline_ns, later(received_ns, us * 1000));
  expect(c, received_ns);
  return Ok{};
}

Task<Ok> Gateway::grpc_infer(const Request& rq, RequestContext& c, Response& rs) {
  rs.content_type = grpc::kContentTypeGrpc;
  auto message = grpc::only_message(rq.body, c.grpc.encoding, largest_grpc_message(), c.grpc.inflated);
  Status found = message.ok() ? grpc_find_model(*message, rq.received_ns, c) : std::move(message.error());
  if (!found.ok()) co_return grpc::render_error(found.error(), rs), Ok{};
  const Version& v = *c.served->version;
  const CallerRegions regions(shared_memory_, c.principal.tenant);
  c.infer.shared_memory = shares_memory(rq) ? &regions : nullptr;
  auto fill = [&](Lease& lease) -> Status {
    InputArea area = lease.area();
    return parse_infer_grpc(c.grpc.infer, v.signature, c.slot_request, area, c.infer);
  };
  auto print = [&](Lease& lease, const SlotResult& result, Response& out) -> Status {
    MAYFLY_TRY(result_status(v, result));
    const std::size_t at = grpc::open_frame(out.body);
    MAYFLY_TRY(print_infer_grpc(out.body, v.endpoint, v.number_text, c.infer, v.signature, result, lease.output()));
    grpc::close_frame(out.body, at, c.grpc.gzip_answers);
    return Ok{};
  };
  const Status status = co_await predict(c, rs, fill, print);
  c.infer.shared_memory = nullptr;
  finish_predict(rq, c, rs, status);
  if (!status.ok()) co_return Ok{};
  if (c.grpc.gzip_answers) rs.headers += "grpc-encoding: gzip\r\n";
  rs.trailers = grpc::kOkTrailers;
  co_return Ok{};
}

Task<Ok> Gateway::grpc_call(const Request& rq, RequestContext& c, Response& rs) {
  switch (c.grpc.method->rpc) {
    case grpc::Rpc::kModelStreamInfer:
      co_return co_await grpc_infer_stream(rq, c, rs);
    case grpc::Rpc::kHealthWatch:
      co_return co_await grpc_watch(rq, c, rs);
    case grpc::Rpc::kReflection:
      co_return co_await grpc_reflect(rq, c, rs);
    default:
      break;
  }
  rs.content_type = grpc::kContentTypeGrpc;
  auto message = grpc::only_message(rq.body, c.grpc.encoding, kSmallMessage, c.grpc.inflated);
  if (!message.ok()) co_return grpc::render_error(message.error(), rs), Ok{};
  const std::size_t at = grpc::open_frame(rs.body);
  if (Status page = grpc_page(rq, *message, c, rs.body); !page.ok())
    co_return grpc::render_error(page.error(), rs), Ok{};
  grpc::close_frame(rs.body, at, c.grpc.gzip_answers);
  if (c.grpc.gzip_answers) rs.headers += "grpc-encoding: gzip\r\n";
  rs.trailers = grpc::kOkTrailers;
  co_return Ok{};
}

// The answers that need no model, or all of them.
Status Gateway::grpc_page(const Request& rq, std::string_view message, RequestContext& c, std::string& out) {
  switch (c.grpc.method->rpc) {
    case grpc::Rpc::kServerLive:
      return grpc::print_flag(true, out), Ok{};
    case grpc::Rpc::kServerReady:
      return grpc::print_flag(ready_, out), Ok{};
    case grpc::Rpc::kServerMetadata:
      return grpc::print_server_metadata(
                 options_.version, shared_memory_.enabled() ? grpc::SharesMemory::kYes : grpc::SharesMemory::kNo, out),
             Ok{};
    case grpc::Rpc::kRepositoryIndex:
      return grpc::print_repository_index(control_.list(c.principal.tenant), out), Ok{};
    case grpc::Rpc::kSharedMemoryStatus:
    case grpc::Rpc::kSharedMemoryRegister:
    case grpc::Rpc::kSharedMemoryUnregister:
      return grpc_shared_memory(rq, message, c, out);
    case grpc::Rpc::kCudaSharedMemory:
      return no_cuda();
    case grpc::Rpc::kTraceSetting:
      return grpc::print_trace_settings(message, out);
    case grpc::Rpc::kLogSettings: {
      auto info = grpc::read_log_settings(message);
      if (!info.ok()) return std::move(info.error());
      if (*info) {
        MAYFLY_TRY(KeyRing::require(c.principal, kAdmin));
        log_.write_requests(**info);
      }
      return grpc::print_log_settings(log_.writes_requests(), out), Ok{};
    }
    case grpc::Rpc::kHealthCheck: {
      auto service = grpc::read_health_service(message);
      if (!service.ok()) return std::move(service.error());
      auto status = grpc_health(*service, c.principal);
      if (!status.ok()) return std::move(status.error());
      if (*status != grpc::Serving::kServiceUnknown) return grpc::print_health(*status, out), Ok{};
      return make_error(Code::kNotFound, "model_not_found", "no service or model \"{}\"", service->substr(0, 200));
    }
    default:
      return grpc_model_page(message, c, out);
  }
}

Status Gateway::grpc_shared_memory(const Request& rq, std::string_view message, RequestContext& c, std::string& out) {
  MAYFLY_TRY(may_share(rq));
  auto asked = grpc::read_region(message);
  if (!asked.ok()) return std::move(asked.error());
  const std::string& tenant = c.principal.tenant;
  if (c.grpc.method->rpc == grpc::Rpc::kSharedMemoryRegister)
    return shared_memory_.add(tenant, asked->name, asked->key, asked->offset, asked->bytes);
  if (c.grpc.method->rpc == grpc::Rpc::kSharedMemoryUnregister) {
    if (!asked->name.empty()) return shared_memory_.remove(tenant, asked->name);
    return shared_memory_.remove_all(tenant), Ok{};
  }
  const std::size_t before = out.size();
  for (const auto& [name, r] : shared_memory_.of(tenant)) {
    if (asked->name.empty() || asked->name == name) grpc::append_region({name, r.key, r.offset, r.bytes}, out);
  }
  if (!asked->name.empty() && out.size() == before) return no_such_region(asked->name);
  return Ok{};
}

Status Gateway::grpc_model_page(std::string_view message, RequestContext& c, std::string& out) {
  const grpc::Rpc rpc = c.grpc.method->rpc;
  auto model = grpc::read_model_name(rpc, message);
  if (!model.ok()) return std::move(model.error());
  if (rpc == grpc::Rpc::kModelStatistics && model->name.empty())
    return grpc::print_statistics(control_.list(c.principal.tenant), node_, out), Ok{};
  c.name.assign(model->name);
  Status found = find_endpoint(c, model->version);
  if (rpc == grpc::Rpc::kModelReady)
    return grpc::print_flag(found.ok(), out), Ok{};  // one at zero is ready: it answers
  MAYFLY_TRY(std::move(found));
  switch (rpc) {
    case grpc::Rpc::kModelMetadata:
      return grpc::print_model_metadata(*c.endpoint, *c.served, out), Ok{};
    case grpc::Rpc::kModelConfig:
      return grpc::print_model_config(*c.endpoint, *c.served, out), Ok{};
    case grpc::Rpc::kModelStatistics:
      return grpc::print_statistics({c.endpoint}, node_, out), Ok{};
    case grpc::Rpc::kRepositoryLoad:
      node_.wake(c.served->version);
      return grpc::print_repository_done(c.name, out), Ok{};
    case grpc::Rpc::kRepositoryUnload:
      for (const auto& [number, served] : c.endpoint->versions) node_.end_idle(*served->version);
      return grpc::print_repository_done(c.name, out), Ok{};
    default:
      return make_error(Code::kUnimplemented, "unknown_method", "no gRPC method {}", c.grpc.method->path);
  }
}

// Of the server, of one of its services, or of a model, of which only who may invoke it learns.
Result<grpc::Serving> Gateway::grpc_health(std::string_view service, const Principal& principal) const {
  const auto serving = ready_ ? grpc::Serving::kServing : grpc::Serving::kNotServing;
  if (service.empty() || grpc::has_service(service)) return serving;
  if (principal.scopes == 0) {
    return make_error(Code::kUnauthenticated, "missing_key", "the health of a model is told only to who sends a key");
  }
  MAYFLY_TRY(KeyRing::require(principal, kInvoke));
  return control_.find(principal.tenant, std::string(service)) ? serving : grpc::Serving::kServiceUnknown;
}

}  // namespace mayfly
