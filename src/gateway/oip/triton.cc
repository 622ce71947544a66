// Triton's REST extensions beside inference: model configuration, statistics, model repository, trace and log settings.
// Source: Triton, protocol/extension_{model_configuration,statistics,model_repository,trace,logging}.md.
#include <algorithm>
#include <chrono>

#include "gateway/gateway.h"
#include "tensor/json.h"
#include "tensor/json_parse.h"

namespace mayfly {
namespace {

using Json = nlohmann::json;

std::string text(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

// An object, or the empty one for no body at all.
Result<Json> parse_object(std::string_view body) {
  if (body.find_first_not_of(" \r\n\t") == std::string_view::npos) return Json(Json::object());
  auto parsed = parse_json_bounded(body);
  if (parsed.ok() && !parsed->is_object()) return invalid("malformed_json", "expected a JSON object");
  return parsed;
}

std::string triton_type(Dtype t) { return t == Dtype::kBytes ? "TYPE_STRING" : fmt::format("TYPE_{}", dtype_name(t)); }

Json config_tensors(const Version& v, const std::vector<TensorSpec>& tensors, bool inputs) {
  Json out = Json::array();
  for (const TensorSpec& t : tensors) {
    Json dims = Json::array();
    for (std::int64_t d : grpc::config_dims(v, t.shape)) dims.push_back(d);
    Json j = {{"name", t.name}, {"data_type", triton_type(t.dtype)}, {"dims", dims}, {"is_shape_tensor", false}};
    if (inputs)
      j.update({{"format", "FORMAT_NONE"}, {"allow_ragged_batch", false}, {"optional", false}});
    else
      j["label_filename"] = "";
    out.push_back(std::move(j));
  }
  return out;
}

Json config_of(const ServedVersion& s) {
  const Version& v = *s.version;
  return {{"name", v.endpoint},
          {"platform", "onnxruntime_onnx"},
          {"backend", "onnxruntime"},
          {"version_policy", {{"latest", {{"num_versions", Control::kKeptVersions}}}}},
          {"max_batch_size", v.batch ? v.batch.max_rows : 0},
          {"input", config_tensors(v, v.signature.inputs, true)},
          {"output", config_tensors(v, v.signature.outputs, false)},
          {"instance_group",
           Json::array({{{"name", v.endpoint}, {"kind", "KIND_CPU"}, {"count", v.settings.max_instances}}})},
          {"default_model_filename", "model.onnx"},
          {"parameters", Json::object()}};
}

Json duration(std::uint64_t count, std::uint64_t ns) { return {{"count", count}, {"ns", ns}}; }

std::uint64_t memory_of(const Endpoint& e, const Node& node) {
  std::uint64_t bytes = 0;
  for (const auto& [number, s] : e.versions) {
    if (const Pool* p = node.find(*s->version)) {
      for (const auto& i : p->instances()) bytes += i->memory_bytes();
    }
  }
  return bytes;
}

// Metrics are kept by endpoint: they stand under its live version.
Json stats_of(const Endpoint& e, const Node& node) {
  const EndpointMetrics& m = e.metrics;
  const std::uint64_t good = m.requests - std::min(m.requests, m.errors + m.cancelled);
  Json memory = Json::array();
  if (const std::uint64_t bytes = memory_of(e, node); bytes > 0)
    memory.push_back({{"type", "CPU"}, {"id", 0}, {"byte_size", bytes}});
  return {{"name", e.name},
          {"version", e.live->version->number_text},
          {"last_inference", m.last_ns == 0 ? 0 : unix_ms() - (now_ns() - m.last_ns) / 1'000'000},
          {"inference_count", good},
          {"execution_count", m.rows.runs()},
          {"inference_stats",
           {{"success", duration(good, m.total.sum_ns() - std::min(m.total.sum_ns(), m.error_ns))},
            {"fail", duration(m.errors, m.error_ns)},
            {"queue", duration(m.queue.count(), m.queue.sum_ns())},
            {"compute_input", duration(m.parse.count(), m.parse.sum_ns())},
            {"compute_infer", duration(m.infer.count(), m.infer.sum_ns())},
            {"compute_output", duration(m.print.count(), m.print.sum_ns())},
            {"cache_hit", duration(0, 0)},
            {"cache_miss", duration(0, 0)}}},
          {"batch_stats", Json::array()},
          {"memory_usage", std::move(memory)}};
}

Json index_of(const std::vector<EndpointPtr>& endpoints) {
  Json out = Json::array();
  for (const EndpointPtr& e : endpoints) {
    for (const auto& [number, s] : e->versions) {
      // What is deployed answers, at zero too.
      out.push_back({{"name", e->name}, {"version", std::to_string(number)}, {"state", "READY"}, {"reason", ""}});
    }
  }
  return out;
}

Json trace_settings() {
  return {{"trace_level", Json::array({"OFF"})},
          {"trace_rate", "1000"},
          {"trace_count", "-1"},
          {"log_frequency", "0"},
          {"trace_file", ""},
          {"trace_mode", "triton"}};
}

// The server keeps no trace: each request's times are in its answer, its log line and the metrics. What asks for
// nothing else than that is taken.
Status check_trace_settings(const Json& asked) {
  const Json now = trace_settings();
  for (const auto& [key, value] : asked.items()) {
    if (!now.contains(key)) return invalid("unknown_setting", "unknown trace setting \"{}\"", key);
    const bool off = key == "trace_level" && (value == "OFF" || value == Json::array());
    if (value.is_null() || value == now[key] || off) continue;
    return make_error(
        Code::kUnimplemented, "not_supported",
        "cannot set {}: this server writes no trace files; Server-Timing, the log and /metrics say where the "
        "time of each request goes",
        key);
  }
  return Ok{};
}

Json log_settings(const Log& log) {
  return {{"log_file", ""},         {"log_info", log.writes_requests()},
          {"log_warning", true},    {"log_error", true},
          {"log_verbose_level", 0}, {"log_format", "json"}};
}

// log_info is the line that each request gets; nothing else can be changed while the server runs.
Status set_log_settings(const Json& asked, Log& log) {
  const Json now = log_settings(log);
  std::optional<bool> info;
  for (const auto& [key, value] : asked.items()) {
    if (!now.contains(key)) return invalid("unknown_setting", "unknown log setting \"{}\"", key);
    if (key == "log_info" && value.is_boolean()) {
      info = value.get<bool>();
      continue;
    }
    if (value != now[key])
      return invalid("invalid_setting", "cannot set {}: of the log, only log_info (true or false) can be set here",
                     key);
  }
  if (info) log.write_requests(*info);
  return Ok{};
}

}  // namespace

Task<Ok> Gateway::repository(const Request& rq, RequestContext& c, Response& rs) {
  auto body = parse_object(rq.body);
  if (!body.ok()) co_return render_error(body.error(), rq.head, rs), Ok{};
  if (c.spec->route == Route::kRepositoryIndex) {
    auto endpoints = control_.list(c.principal.tenant);
    if (body->contains("ready") && !(*body)["ready"].is_boolean())
      co_return render_error(invalid("malformed_json", "\"ready\" must be true or false"), rq.head, rs), Ok{};
    rs.body = text(index_of(endpoints));
    co_return Ok{};
  }
  if (c.spec->route == Route::kRepositoryLoad) {
    const auto parameters = body->find("parameters");
    if (parameters != body->end() && !parameters->empty()) {
      render_error(make_error(Code::kUnimplemented, "not_supported",
                              "loading takes no configuration or files; deploy a version instead (`mayfly deploy`, "
                              "`mayfly import`)"),
                   rq.head, rs);
      co_return Ok{};
    }
    node_.wake(c.endpoint->live->version);
  } else {
    for (const auto& [number, s] : c.endpoint->versions) node_.end_idle(*s->version);
  }
  rs.body = "{}";
  co_return Ok{};
}

Task<Ok> Gateway::server_settings(const Request& rq, RequestContext& c, Response& rs) {
  const bool logging = c.spec->route == Route::kLogging || c.spec->route == Route::kLoggingSet;
  if (c.spec->route == Route::kLoggingSet || c.spec->route == Route::kTraceSet) {
    auto body = parse_object(rq.body);
    const Status st = !body.ok() ? Status(body.error())
                      : logging  ? set_log_settings(*body, log_)
                                 : check_trace_settings(*body);
    if (!st.ok()) co_return render_error(st.error(), rq.head, rs), Ok{};
  }
  rs.body = text(logging ? log_settings(log_) : trace_settings());
  co_return Ok{};
}

void Gateway::triton_page(RequestContext& c, Response& rs) {
  if (c.spec->route == Route::kModelConfig) {
    rs.body = text(config_of(*c.served));
    return;
  }
  Json stats = Json::array();
  if (c.spec->route == Route::kAllStats) {
    for (const EndpointPtr& e : control_.list(c.principal.tenant)) stats.push_back(stats_of(*e, node_));
  } else if (c.served == c.endpoint->live) {
    stats.push_back(stats_of(*c.endpoint, node_));
  }
  rs.body = text({{"model_stats", stats}});
}

Status Gateway::may_share(const Request& rq) const {
  if (shares_memory(rq)) return Ok{};
  return invalid("shared_memory_unsupported",
                 "shared memory is for callers on the host of a server that was started with --shared-memory");
}

Task<Ok> Gateway::shared_memory_page(const Request& rq, RequestContext& c, Response& rs) {
  auto fail = [&](const Error& e) { render_error(e, rq.head, rs); };
  if (c.spec->route == Route::kCudaSharedMemory) {
    co_return fail(invalid("not_supported", "CUDA shared memory is not supported: models run on processors")), Ok{};
  }
  if (const Status st = may_share(rq); !st.ok()) co_return fail(st.error()), Ok{};
  const std::string& tenant = c.principal.tenant;
  if (c.spec->route == Route::kSharedMemoryRegister) {
    auto body = parse_object(rq.body);
    if (!body.ok()) co_return fail(body.error()), Ok{};
    const Json offset = body->value("offset", Json(0)), bytes = body->value("byte_size", Json());
    if (!body->contains("key") || !(*body)["key"].is_string() || !offset.is_number_unsigned() ||
        !bytes.is_number_unsigned()) {
      co_return fail(invalid("malformed_json", "expected {{\"key\": \"/name\", \"offset\": 0, \"byte_size\": N}}")),
          Ok{};
    }
    const Status st = shared_memory_.add(tenant, c.part, (*body)["key"].get<std::string>(), offset.get<std::uint64_t>(),
                                         bytes.get<std::uint64_t>());
    if (!st.ok()) co_return fail(st.error()), Ok{};
    rs.body = "{}";
    co_return Ok{};
  }
  if (c.spec->route == Route::kSharedMemoryUnregister) {
    if (c.part.empty())
      shared_memory_.remove_all(tenant);
    else if (auto st = shared_memory_.remove(tenant, c.part); !st.ok())
      co_return fail(st.error()), Ok{};
    rs.body = "{}";
    co_return Ok{};
  }
  Json regions = Json::array();
  for (const auto& [name, r] : shared_memory_.of(tenant)) {
    if (!c.part.empty() && c.part != name) continue;
    regions.push_back({{"name", name}, {"key", r.key}, {"offset", r.offset}, {"byte_size", r.bytes}});
  }
  if (!c.part.empty() && regions.empty()) {
    co_return fail(no_such_region(c.part)), Ok{};
  }
  rs.body = text(regions);
  co_return Ok{};
}

}  // namespace mayfly
