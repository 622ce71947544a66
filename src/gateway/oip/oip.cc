// Open Inference Protocol v2 over HTTP: server, health, metadata, list, ready, infer. Triton's extensions beside these
// are triton.cc, generate.cc and shared_memory.h.
#include "gateway/predict.h"

#include <algorithm>
#include <charconv>

#include "tensor/json.h"

namespace mayfly {
namespace {

void append_tensors(std::string& out, const std::vector<TensorSpec>& tensors) {
  out += '[';
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (i > 0) out += ',';
    out += "{\"name\":";
    append_json_string(out, tensors[i].name);
    fmt::format_to(std::back_inserter(out), R"(,"datatype":"{}","shape":{}}})", dtype_name(tensors[i].dtype),
                   to_string(tensors[i].shape));
  }
  out += ']';
}

void append_metadata(std::string& out, const Endpoint& e, const ServedVersion& s) {
  out += "{\"name\":";
  append_json_string(out, e.name);
  out += ",\"versions\":[";
  bool first = true;
  for (const auto& [number, v] : e.versions) {
    fmt::format_to(std::back_inserter(out), "{}\"{}\"", first ? "" : ",", number);
    first = false;
  }
  out += R"(],"platform":"onnxruntime_onnx","inputs":)";
  append_tensors(out, s.version->signature.inputs);
  out += ",\"outputs\":";
  append_tensors(out, s.version->signature.outputs);
  out += '}';
}

std::uint64_t deadline_of(std::uint64_t received_ns, std::uint64_t timeout_us) {
  constexpr std::uint64_t kDayUs = 86'400'000'000;  // beyond any endpoint's own timeout
  return received_ns + std::min(timeout_us, kDayUs) * 1000;
}

// A request parameter, `name` in quotes, that is needed before the body is parsed: parsing waits for a place. Looks for
// it in the first and last bytes of the JSON, where parameters stand; 0 where it is not found. What it finds concerns
// the caller's own requests only.
std::uint64_t early_parameter(std::string_view json, std::string_view name) {
  constexpr std::size_t kLook = 2048;
  std::size_t at = json.substr(0, kLook).find(name);
  if (at == std::string_view::npos && json.size() > kLook) {
    const std::size_t tail = json.size() - std::min(json.size(), kLook);
    at = json.substr(tail).find(name);
    if (at != std::string_view::npos) at += tail;
  }
  if (at == std::string_view::npos) return 0;
  const std::size_t colon = json.find_first_not_of(" \t\r\n", at + name.size());
  if (colon == std::string_view::npos || json[colon] != ':') return 0;  // the value of a string
  const std::size_t digit = json.find_first_not_of(" \t\r\n", colon + 1);
  std::uint64_t n = 0;
  if (digit != std::string_view::npos) std::from_chars(json.data() + digit, json.data() + json.size(), n);
  return n;
}

Result<std::optional<std::uint64_t>> json_length(const RequestHead& head, std::size_t body) {
  const std::string_view text = head.header("inference-header-content-length");
  if (text.empty()) return std::optional<std::uint64_t>();
  std::uint64_t n = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc() || end != text.data() + text.size() || n > body) {
    return invalid("malformed_request", "Inference-Header-Content-Length is \"{}\"; the body has {} bytes", text, body);
  }
  return std::optional<std::uint64_t>(n);
}

}  // namespace

Task<Ok> Gateway::infer(const Request& rq, RequestContext& c, Response& rs) {
  const Version& v = *c.served->version;
  auto length = json_length(*rq.head, rq.body.size());
  if (!length.ok()) {
    finish_predict(rq, c, rs, length.error());
    co_return Ok{};
  }
  c.infer.clear();
  const std::string_view json = rq.body.substr(0, length->value_or(rq.body.size()));
  c.priority = early_parameter(json, "\"priority\"");
  if (const std::uint64_t us = early_parameter(json, "\"timeout\""); us > 0)
    c.deadline_ns = std::min(c.deadline_ns, deadline_of(rq.received_ns, us));
  const CallerRegions regions(shared_memory_, c.principal.tenant);
  c.infer.shared_memory = shares_memory(rq) ? &regions : nullptr;
  auto fill = [&](Lease& lease) -> Status {
    InputArea area = lease.area();
    MAYFLY_TRY(parse_infer(rq.body, *length, v.signature, c.slot_request, area, c.infer));
    if (c.infer.timeout_us > 0)
      c.deadline_ns = std::min(c.deadline_ns, deadline_of(rq.received_ns, c.infer.timeout_us));
    return Ok{};
  };
  auto print = [&](Lease& lease, const SlotResult& result, Response& out) -> Status {
    MAYFLY_TRY(result_status(v, result));
    std::size_t json_bytes = 0;
    bool any_binary = false;
    MAYFLY_TRY(print_infer_response(out.body, json_bytes, any_binary, v.endpoint, v.number_text, c.infer, v.signature,
                                    result, lease.output()));
    if (any_binary) {
      out.content_type = "application/octet-stream";
      fmt::format_to(std::back_inserter(out.headers), "Inference-Header-Content-Length: {}\r\n", json_bytes);
    }
    return Ok{};
  };
  const Status status = co_await predict(c, rs, fill, print);
  c.infer.shared_memory = nullptr;
  finish_predict(rq, c, rs, status);
  co_return Ok{};
}

Task<Ok> Gateway::oip(const Request& rq, RequestContext& c, Response& rs) {
  switch (c.spec->route) {
    case Route::kInfer:
      co_return co_await infer(rq, c, rs);
    case Route::kGenerate:
    case Route::kGenerateStream:
      co_return co_await generate(rq, c, rs);
    case Route::kRepositoryIndex:
    case Route::kRepositoryLoad:
    case Route::kRepositoryUnload:
      co_return co_await repository(rq, c, rs);
    case Route::kTrace:
    case Route::kTraceSet:
    case Route::kLogging:
    case Route::kLoggingSet:
      co_return co_await server_settings(rq, c, rs);
    case Route::kSharedMemoryStatus:
    case Route::kSharedMemoryRegister:
    case Route::kSharedMemoryUnregister:
    case Route::kCudaSharedMemory:
      co_return co_await shared_memory_page(rq, c, rs);
    case Route::kModelConfig:
    case Route::kModelStats:
    case Route::kAllStats:
      triton_page(c, rs);
      break;
    case Route::kServerInfo:
      rs.body = fmt::format(
          R"({{"name":"mayfly","version":"{}","extensions":["binary_tensor_data","classification","generate",)"
          R"("logging","model_configuration","model_repository","parameters","statistics"{}]}})",
          options_.version, shared_memory_.enabled() ? R"(,"system_shared_memory")" : "");
      break;
    case Route::kLive:
      rs.body = R"({"live":true})";
      break;
    case Route::kReady:
      rs.body = ready_ ? R"({"ready":true})" : R"({"ready":false})";
      rs.status = ready_ ? 200 : 503;
      break;
    case Route::kModelReady:  // a model at zero is ready: it answers
      rs.body = "{\"name\":";
      append_json_string(rs.body, c.name);
      rs.body += ",\"ready\":true}";
      break;
    case Route::kModelMetadata:
      append_metadata(rs.body, *c.endpoint, *c.served);
      break;
    default: {
      rs.body = "{\"models\":[";
      bool first = true;
      for (const EndpointPtr& e : control_.list(c.principal.tenant)) {
        if (!std::exchange(first, false)) rs.body += ',';
        append_metadata(rs.body, *e, *e->live);
      }
      rs.body += "]}";
    }
  }
  co_return Ok{};
}

}  // namespace mayfly
