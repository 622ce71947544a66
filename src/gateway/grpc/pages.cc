#include "gateway/grpc/pages.h"

#include <algorithm>

#include "grpc/health/v1/health.pb.h"
#include "inference.pb.h"
#include "worker_ipc/proto_wire.h"

namespace mayfly::grpc {
namespace {

constexpr std::string_view kPlatform = "onnxruntime_onnx", kBackend = "onnxruntime";

Error malformed(std::string_view what) {
  return invalid("malformed_message", "cannot read the request: it is no valid {}", what);
}

std::string text(std::string_view s) { return std::string(s); }

::inference::DataType data_type(Dtype t) {
  switch (t) {
    case Dtype::kBool:
      return ::inference::TYPE_BOOL;
    case Dtype::kUint8:
      return ::inference::TYPE_UINT8;
    case Dtype::kUint16:
      return ::inference::TYPE_UINT16;
    case Dtype::kUint32:
      return ::inference::TYPE_UINT32;
    case Dtype::kUint64:
      return ::inference::TYPE_UINT64;
    case Dtype::kInt8:
      return ::inference::TYPE_INT8;
    case Dtype::kInt16:
      return ::inference::TYPE_INT16;
    case Dtype::kInt32:
      return ::inference::TYPE_INT32;
    case Dtype::kInt64:
      return ::inference::TYPE_INT64;
    case Dtype::kFp16:
      return ::inference::TYPE_FP16;
    case Dtype::kFp32:
      return ::inference::TYPE_FP32;
    case Dtype::kFp64:
      return ::inference::TYPE_FP64;
    case Dtype::kBf16:
      return ::inference::TYPE_BF16;
    case Dtype::kBytes:
      return ::inference::TYPE_STRING;
    case Dtype::kInvalid:
      break;
  }
  return ::inference::TYPE_INVALID;
}

void set_duration(::inference::StatisticDuration* to, std::uint64_t count, std::uint64_t ns) {
  to->set_count(count);
  to->set_ns(ns);
}

std::uint64_t unix_ms_of(std::uint64_t monotonic_ns) {
  if (monotonic_ns == 0) return 0;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
  return ms - (now_ns() - monotonic_ns) / 1'000'000;
}

std::uint64_t memory_of(const Endpoint& e, const Node& node) {
  std::uint64_t bytes = 0;
  for (const auto& [number, served] : e.versions) {
    const Pool* pool = node.find(*served->version);
    if (pool == nullptr) continue;
    for (const auto& i : pool->instances()) bytes += i->memory_bytes();
  }
  return bytes;
}

// Says how far an unload goes; no model here depends on another. Any other parameter would have to change the model.
bool harmless(std::string_view parameter) { return parameter == "unload_dependents"; }

Status check_repository_parameter(std::string_view entry) {
  WireReader fields(entry);
  WireField f;
  while (fields.next(f)) {
    if (f.number != 1 || f.type != WireType::kBytes || harmless(f.bytes)) continue;
    return make_error(Code::kUnimplemented, "unsupported_parameter",
                      "parameter \"{}\" is not supported: models are changed by deploying them",
                      f.bytes.substr(0, 200));
  }
  return fields.ok() ? Status(Ok{}) : malformed("ModelRepositoryParameter");
}

template <typename M>
Status parse(std::string_view message, std::string_view what, M& out) {
  if (out.ParseFromArray(message.data(), static_cast<int>(message.size()))) return Ok{};
  return malformed(what);
}

Error fixed_setting(std::string_view what, std::string_view name) {
  return make_error(Code::kUnimplemented, "setting_is_fixed",
                    "{} setting \"{}\" cannot be changed while the server runs", what, name.substr(0, 200));
}

}  // namespace

Result<ModelName> read_model_name(Rpc rpc, std::string_view message) {
  const bool repository = rpc == Rpc::kRepositoryLoad || rpc == Rpc::kRepositoryUnload;
  std::string_view one, two;
  WireReader fields(message);
  WireField f;
  while (fields.next(f)) {
    if (f.number == 0 || f.number > 3) continue;
    if (f.type != WireType::kBytes) return malformed("message of this method");
    if (f.number == 1) one = f.bytes;
    if (f.number == 2) two = f.bytes;
    if (f.number == 3 && repository) MAYFLY_TRY(check_repository_parameter(f.bytes));
  }
  if (!fields.ok()) return malformed("message of this method");
  if (repository) return ModelName{two.empty() ? one : two, {}};
  return ModelName{one, two};
}

void print_flag(bool value, std::string& out) {
  if (value) append_varint_field(out, 1, 1);
}

void print_server_metadata(std::string_view version, SharesMemory shares, std::string& out) {
  ::inference::ServerMetadataResponse m;
  m.set_name("mayfly");
  m.set_version(text(version));
  for (const char* extension : {"classification", "model_configuration", "statistics", "model_repository",
                                "model_repository(unload_dependents)", "binary_tensor_data", "parameters"}) {
    m.add_extensions(extension);
  }
  if (shares == SharesMemory::kYes) m.add_extensions("system_shared_memory");
  m.AppendToString(&out);
}

void print_model_metadata(const Endpoint& endpoint, const ServedVersion& served, std::string& out) {
  ::inference::ModelMetadataResponse m;
  m.set_name(endpoint.name);
  for (const auto& [number, version] : endpoint.versions) m.add_versions(version->version->number_text);
  m.set_platform(text(kPlatform));
  const auto add = [](const TensorSpec& spec, ::inference::ModelMetadataResponse::TensorMetadata* to) {
    to->set_name(spec.name);
    to->set_datatype(text(dtype_name(spec.dtype)));
    for (const std::int64_t d : spec.shape.view()) to->add_shape(d);
  };
  for (const TensorSpec& t : served.version->signature.inputs) add(t, m.add_inputs());
  for (const TensorSpec& t : served.version->signature.outputs) add(t, m.add_outputs());
  m.AppendToString(&out);
}

std::span<const std::int64_t> config_dims(const Version& version, const Shape& shape) {
  const std::span<const std::int64_t> whole = shape.view();
  return version.batch ? whole.subspan(1) : whole;
}

void print_model_config(const Endpoint& endpoint, const ServedVersion& served, std::string& out) {
  ::inference::ModelConfigResponse response;
  ::inference::ModelConfig& m = *response.mutable_config();
  m.set_name(endpoint.name);
  m.set_platform(text(kPlatform));
  m.set_backend(text(kBackend));
  m.set_max_batch_size(static_cast<std::int32_t>(served.version->batch ? served.version->batch.max_rows : 0));
  for (const auto& [number, version] : endpoint.versions) {
    m.mutable_version_policy()->mutable_specific()->add_versions(number);
  }
  const auto add = [&served](const TensorSpec& spec, auto* to) {
    to->set_name(spec.name);
    to->set_data_type(data_type(spec.dtype));
    for (const std::int64_t d : config_dims(*served.version, spec.shape)) to->add_dims(d);
  };
  for (const TensorSpec& t : served.version->signature.inputs) add(t, m.add_input());
  for (const TensorSpec& t : served.version->signature.outputs) add(t, m.add_output());
  auto* group = m.add_instance_group();
  group->set_name(endpoint.name);
  group->set_kind(::inference::ModelInstanceGroup::KIND_CPU);
  group->set_count(static_cast<std::int32_t>(served.version->settings.max_instances));
  m.mutable_model_transaction_policy()->set_decoupled(false);
  response.AppendToString(&out);
}

void print_statistics(const std::vector<EndpointPtr>& endpoints, const Node& node, std::string& out) {
  ::inference::ModelStatisticsResponse response;
  for (const EndpointPtr& e : endpoints) {
    const EndpointMetrics& m = e->metrics;
    ::inference::ModelStatistics& row = *response.add_model_stats();
    row.set_name(e->name);
    row.set_version(e->live->version->number_text);
    row.set_last_inference(unix_ms_of(m.last_ns));
    const std::uint64_t good = m.requests - m.errors;
    row.set_inference_count(good);
    row.set_execution_count(m.infer.count());
    auto* s = row.mutable_inference_stats();
    set_duration(s->mutable_success(), good, m.total.sum_ns() - std::min(m.total.sum_ns(), m.error_ns));
    set_duration(s->mutable_fail(), m.errors, m.error_ns);
    set_duration(s->mutable_queue(), m.queue.count(), m.queue.sum_ns());
    set_duration(s->mutable_compute_infer(), m.infer.count(), m.infer.sum_ns());
    if (const std::uint64_t bytes = memory_of(*e, node); bytes > 0) {
      auto* usage = row.add_memory_usage();
      usage->set_type("CPU");
      usage->set_byte_size(bytes);
    }
  }
  response.AppendToString(&out);
}

void print_repository_index(const std::vector<EndpointPtr>& endpoints, std::string& out) {
  ::inference::RepositoryIndexResponse response;
  for (const EndpointPtr& e : endpoints) {
    for (const auto& [number, served] : e->versions) {
      auto* row = response.add_models();
      row->set_name(e->name);
      row->set_version(served->version->number_text);
      row->set_state("READY");
    }
  }
  response.AppendToString(&out);
}

void print_repository_done(std::string_view name, std::string& out) {
  append_bytes_field(out, 1, name);
  append_varint_field(out, 2, 1);
}

Status print_trace_settings(std::string_view message, std::string& out) {
  ::inference::TraceSettingRequest request;
  MAYFLY_TRY(parse(message, "TraceSettingRequest", request));
  if (!request.settings().empty()) return fixed_setting("trace", request.settings().begin()->first);
  ::inference::TraceSettingResponse response;
  (*response.mutable_settings())["trace_level"].add_value("OFF");
  response.AppendToString(&out);
  return Ok{};
}

Result<std::optional<bool>> read_log_settings(std::string_view message) {
  ::inference::LogSettingsRequest request;
  MAYFLY_TRY(parse(message, "LogSettingsRequest", request));
  std::optional<bool> info;
  for (const auto& [name, value] : request.settings()) {
    if (name != "log_info") return fixed_setting("log", name);
    if (!value.has_bool_param()) return invalid("invalid_setting", "cannot set log_info: expected a bool");
    info = value.bool_param();
  }
  return info;
}

void print_log_settings(bool log_info, std::string& out) {
  ::inference::LogSettingsResponse response;
  auto& settings = *response.mutable_settings();
  settings["log_info"].set_bool_param(log_info);
  for (const char* level : {"log_warning", "log_error"}) settings[level].set_bool_param(true);
  settings["log_verbose_level"].set_uint32_param(0);
  settings["log_format"].set_string_param("json");
  response.AppendToString(&out);
}

Result<Region> read_region(std::string_view message) {
  Region out;
  WireReader fields(message);
  WireField f;
  while (fields.next(f)) {
    if (f.number == 0 || f.number > 4) continue;
    const bool text = f.number <= 2;
    if (f.type != (text ? WireType::kBytes : WireType::kVarint)) return malformed("message of this method");
    if (text)
      (f.number == 1 ? out.name : out.key) = f.bytes;
    else
      (f.number == 3 ? out.offset : out.bytes) = f.value;
  }
  if (!fields.ok()) return malformed("message of this method");
  return out;
}

void append_region(const Region& region, std::string& out) {
  const LengthLater entry(out, 1);  // of map<string, RegionStatus>
  append_bytes_field(out, 1, region.name);
  const LengthLater status(out, 2);
  append_bytes_field(out, 1, region.name);
  append_bytes_field(out, 2, region.key);
  append_varint_field(out, 3, region.offset);
  append_varint_field(out, 4, region.bytes);
}

Result<std::string> read_health_service(std::string_view message) {
  ::grpc::health::v1::HealthCheckRequest request;
  MAYFLY_TRY(parse(message, "HealthCheckRequest", request));
  return request.service();
}

void print_health(Serving status, std::string& out) {
  ::grpc::health::v1::HealthCheckResponse response;
  response.set_status(static_cast<::grpc::health::v1::HealthCheckResponse::ServingStatus>(status));
  response.AppendToString(&out);
}

}  // namespace mayfly::grpc
