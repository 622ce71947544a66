// Open Inference Protocol v2 over HTTP: server, health, metadata, list, ready, infer.
#include "gateway/predict.h"

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
  c.infer.id.clear();
  c.infer.outputs.clear();
  c.infer.binary_output_default = false;
  auto fill = [&](Lease& lease) -> Status {
    InputArea area = lease.area();
    return parse_infer(rq.body, *length, v.signature, c.slot_request, area, c.infer);
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
  finish_predict(rq, c, rs, status);
  co_return Ok{};
}

Task<Ok> Gateway::oip(const Request& rq, RequestContext& c, Response& rs) {
  switch (c.spec->route) {
    case Route::kInfer:
      co_return co_await infer(rq, c, rs);
    case Route::kServerInfo:
      rs.body =
          fmt::format(R"({{"name":"mayfly","version":"{}","extensions":["binary_tensor_data","classification"]}})",
                      options_.version);
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
