// What /v1/models says: one answer for KServe (ready), TensorFlow Serving (model_version_status, metadata) and OpenAI's
// clients (id, object, created, owned_by).
#include "gateway/gateway.h"
#include "tensor/json.h"

namespace mayfly {
namespace {

std::string_view tensorflow_type(Dtype t) {
  switch (t) {
    case Dtype::kBool:
      return "DT_BOOL";
    case Dtype::kUint8:
      return "DT_UINT8";
    case Dtype::kUint16:
      return "DT_UINT16";
    case Dtype::kUint32:
      return "DT_UINT32";
    case Dtype::kUint64:
      return "DT_UINT64";
    case Dtype::kInt8:
      return "DT_INT8";
    case Dtype::kInt16:
      return "DT_INT16";
    case Dtype::kInt32:
      return "DT_INT32";
    case Dtype::kInt64:
      return "DT_INT64";
    case Dtype::kFp16:
      return "DT_HALF";
    case Dtype::kFp32:
      return "DT_FLOAT";
    case Dtype::kFp64:
      return "DT_DOUBLE";
    case Dtype::kBf16:
      return "DT_BFLOAT16";
    case Dtype::kBytes:
      return "DT_STRING";
    case Dtype::kInvalid:
      break;
  }
  return "DT_INVALID";
}

void append_tensor_infos(std::string& out, const std::vector<TensorSpec>& tensors) {
  out += '{';
  for (const TensorSpec& t : tensors) {
    if (&t != tensors.data()) out += ',';
    append_json_string(out, t.name);
    fmt::format_to(std::back_inserter(out), R"(:{{"dtype":"{}","tensor_shape":{{"dim":[)", tensorflow_type(t.dtype));
    for (std::size_t i = 0; i < t.shape.rank; ++i) {
      fmt::format_to(std::back_inserter(out), R"({}{{"size":"{}","name":""}})", i > 0 ? "," : "", t.shape.dims[i]);
    }
    out += R"(],"unknown_rank":false},"name":)";
    append_json_string(out, t.name);
    out += '}';
  }
  out += '}';
}

void append_metadata(std::string& out, const Version& v) {
  out += R"({"model_spec":{"name":)";
  append_json_string(out, v.endpoint);
  fmt::format_to(
      std::back_inserter(out),
      R"(,"signature_name":"","version":"{}"}},"metadata":{{"signature_def":{{"signature_def":{{"serving_default":{{"inputs":)",
      v.number_text);
  append_tensor_infos(out, v.signature.inputs);
  out += ",\"outputs\":";
  append_tensor_infos(out, v.signature.outputs);
  out += R"(,"method_name":"tensorflow/serving/predict"}}}}})";
}

// The members that OpenAI's clients want of a model, without braces.
void append_model_members(std::string& out, const Endpoint& e) {
  out += "\"id\":";
  append_json_string(out, e.name);
  fmt::format_to(std::back_inserter(out), R"(,"object":"model","created":{},"owned_by":)", e.created_ms / 1000);
  append_json_string(out, e.tenant);
}

// `all`: the status of every version, the newest first; else of `served` alone.
void append_model(std::string& out, const Endpoint& e, const ServedVersion& served, bool all) {
  out += '{';
  append_model_members(out, e);
  out += ",\"name\":";
  append_json_string(out, e.name);
  out += R"(,"ready":true,"model_version_status":[)";  // a model at zero is ready: it answers
  bool first = true;
  for (auto it = e.versions.rbegin(); it != e.versions.rend(); ++it) {
    if (!all && it->second.get() != &served) continue;
    fmt::format_to(std::back_inserter(out),
                   R"({}{{"version":"{}","state":"AVAILABLE","status":{{"error_code":"OK","error_message":""}}}})",
                   first ? "" : ",", it->first);
    first = false;
  }
  out += "]}";
}

void append_model_list(std::string& out, const std::vector<EndpointPtr>& endpoints) {
  out += R"({"object":"list","data":[)";
  for (const EndpointPtr& e : endpoints) {
    if (&e != endpoints.data()) out += ',';
    out += '{';
    append_model_members(out, *e);
    out += '}';
  }
  out += "],\"models\":[";
  for (const EndpointPtr& e : endpoints) {
    if (&e != endpoints.data()) out += ',';
    append_json_string(out, e->name);
  }
  out += "]}";
}

}  // namespace

Status Gateway::find_label(RequestContext& c, std::string_view label) {
  const auto& versions = c.endpoint->versions;
  if (label == "stable") return Ok{};  // the live version, which find_endpoint has taken
  if (label == "previous" && versions.size() > 1) {
    auto it = versions.find(c.served->version->number);
    if (it != versions.begin()) {
      c.served = std::prev(it)->second;
      return Ok{};
    }
  }
  return make_error(Code::kNotFound, "version_not_found",
                    "model \"{}\" has no label \"{}\"; \"stable\" is its live version, \"previous\" the one before it, "
                    "where there is one",
                    c.name, label);
}

Task<Ok> Gateway::v1(const Request& rq, RequestContext& c, Response& rs) {
  switch (c.spec->route) {
    case Route::kV1Predict:
    case Route::kV1Classify:
      co_return co_await v1_predict(rq, c, rs);
    case Route::kV1ModelList:
      append_model_list(rs.body, control_.list(c.principal.tenant));
      break;
    case Route::kV1Metadata:
      append_metadata(rs.body, *c.served->version);
      break;
    case Route::kV1Model:
      append_model(rs.body, *c.endpoint, *c.served, c.spec->path == "/v1/models/{name}");
      break;
    default:
      render_error(
          make_error(Code::kUnimplemented, "not_supported",
                     "{} does not explain or regress; :predict gives its outputs", c.served->version->display()),
          rq.head, rs);
  }
  co_return Ok{};
}

}  // namespace mayfly
