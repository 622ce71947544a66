#include "control/control.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "crypto/hash.h"
#include "tensor/json.h"
#include "worker_ipc/oip.h"

namespace mayfly {
namespace {

constexpr int kArtefactFormat = 1;

std::uint64_t unix_ms() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
}

void make_key_text(std::string& out, std::string_view tenant, std::string_view name) {
  out.assign(tenant);
  out += '/';
  out += name;
}

// What saved layouts depend on: model and instruction sets of the processor.
std::string cpu_type() {
  std::ifstream in("/proc/cpuinfo");
  std::string line, out;
  while (std::getline(in, line) && !line.empty()) {
    if (line.rfind("model name", 0) == 0 || line.rfind("flags", 0) == 0) out += line;
  }
  return out;
}

Result<std::uint64_t> size_of(int fd) {
  struct stat st{};
  if (fstat(fd, &st) != 0) return errno_error(errno, "fstat");
  return static_cast<std::uint64_t>(st.st_size);
}

Status publish(int fd, const std::string& from, const std::string& to, const std::string& dir) {
  if (fsync(fd) != 0 || rename(from.c_str(), to.c_str()) != 0) return errno_error(errno, fmt::format("write {}", to));
  Fd folder(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || fsync(folder.get()) != 0) return errno_error(errno, fmt::format("sync {}", dir));
  return Ok{};
}

NodeSettings node_settings(const EndpointSettings& s) {
  NodeSettings n;
  n.memory_bytes = s.memory_bytes;
  n.cpu_milli = s.cpu_milli;
  n.min_instances = s.min_instances;
  n.max_instances = s.max_instances;
  n.concurrency = s.concurrency;
  n.idle_ms = s.idle_ms;
  n.timeout_ms = s.timeout_ms;
  n.queue = s.queue;
  n.max_request_bytes = s.max_request_bytes;
  n.max_response_bytes = s.max_response_bytes;
  return n;
}

Status set_image(const ImageInput& image, const Signature& sig, TransformConfig& t) {
  if (sig.inputs.size() != 1 || sig.inputs[0].dtype != Dtype::kFp32 || sig.inputs[0].shape.rank != 4) {
    return invalid("transform_mismatch",
                   "input.image needs a model with one FP32 input of rank 4 ([n,3,h,w] or [n,h,w,3]); this one has {} "
                   "inputs, the first is {} {}",
                   sig.inputs.size(), sig.inputs.empty() ? "" : dtype_name(sig.inputs[0].dtype),
                   sig.inputs.empty() ? "" : to_string(sig.inputs[0].shape));
  }
  t.image_input = 1;
  t.width = image.width;
  t.height = image.height;
  t.crop_permille = image.crop_permille;
  t.layout = image.nhwc ? 1 : 0;
  for (std::size_t i = 0; i < 3; ++i) {
    t.mean[i] = image.mean[i];
    t.scale[i] = image.scale[i];
  }
  return Ok{};
}

Status set_classes(const ClassesOutput& classes, const Signature& sig, TransformConfig& t) {
  int index = -1;
  for (std::size_t i = 0; i < sig.outputs.size(); ++i) {
    const Dtype d = sig.outputs[i].dtype;
    const bool floating = d == Dtype::kFp16 || d == Dtype::kFp32 || d == Dtype::kFp64;
    if (classes.output.empty() ? floating : sig.outputs[i].name == classes.output && floating)
      index = static_cast<int>(i);
  }
  if (index < 0) {
    return invalid("transform_mismatch", "output.classes: the model has no floating-point output{}{}",
                   classes.output.empty() ? "" : " named ", classes.output);
  }
  t.classes_output = static_cast<std::uint32_t>(index);
  t.classes_top = classes.top;
  return Ok{};
}

}  // namespace

EndpointPtr Control::find(std::string_view tenant, std::string_view name) const {
  make_key_text(lookup_, tenant, name);
  auto it = endpoints_.find(lookup_);
  return it == endpoints_.end() ? nullptr : it->second;
}

std::vector<EndpointPtr> Control::all() const {
  std::map<std::string, EndpointPtr> sorted(endpoints_.begin(), endpoints_.end());
  std::vector<EndpointPtr> out;
  for (auto& [key, e] : sorted) out.push_back(e);
  return out;
}

std::vector<EndpointPtr> Control::list(std::string_view tenant) const {
  auto out = all();
  std::erase_if(out, [&](const EndpointPtr& e) { return e->tenant != tenant; });
  return out;
}

std::string Control::artefact_path(std::string_view package) const {
  static const std::string cpu = cpu_type();
  const std::string key =
      sha256_hex(fmt::format("{} {} {} {}", package, cpu, options_.runtime_version, kArtefactFormat));
  return fmt::format("{}/artefacts/{}.ort", options_.data_dir, key);
}

Result<ServedPtr> Control::serve(const VersionRow& row, const EndpointSettings& settings, const CompileReport& report) {
  auto v = std::make_shared<Version>();
  v->tenant = row.tenant;
  v->endpoint = row.endpoint;
  v->number = row.number;
  v->number_text = std::to_string(row.number);
  v->signature = report.signature;
  v->settings = node_settings(settings);
  v->artefact_path = artefact_path(row.package);
  if (settings.image) MAYFLY_TRY(set_image(*settings.image, report.signature, v->transform));
  if (settings.classes) MAYFLY_TRY(set_classes(*settings.classes, report.signature, v->transform));
  auto served = std::make_shared<ServedVersion>();
  served->version = std::move(v);
  served->settings = settings;
  served->package = row.package;
  served->report_json = report.json;
  served->created_ms = row.created_ms;
  return ServedPtr(std::move(served));
}

void Control::put(const EndpointPtr& e, ServedPtr served) {
  if (e->live) node_->retire(*e->live->version);
  e->versions[served->version->number] = served;
  e->live = std::move(served);
  while (e->versions.size() > kKeptVersions) {
    node_->retire(*e->versions.begin()->second->version);
    e->versions.erase(e->versions.begin());
  }
  node_->keep(e->live->version);
}

Task<Result<CompileReport>> Control::build_artefact(std::string package, std::string path) {
  auto model = packages_.open(package);
  if (!model.ok()) co_return model.error();
  auto bytes = size_of(model->get());
  if (!bytes.ok()) co_return bytes.error();
  auto check = [this, &package] { return packages_.verify(package); };
  if (auto st = co_await blocking_.run(check); !st.ok()) co_return st.error();
  const std::string dir = options_.data_dir + "/artefacts";
  const std::string temp = fmt::format("{}/tmp-{}", dir, random_token(16));
  Fd out(::open(temp.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (!out.valid()) co_return errno_error(errno, fmt::format("make {}", temp));
  auto report = co_await compile_model(launcher_, model->get(), *bytes, out.get(), CompileLimits{});
  if (report.ok()) {
    auto finish = [&] { return publish(out.get(), temp, path, dir); };
    if (auto st = co_await blocking_.run(finish); !st.ok()) report = st.error();
  }
  if (!report.ok()) unlink(temp.c_str());
  co_return report;
}

Task<Result<ServedPtr>> Control::deploy(std::string tenant, std::string name, std::string package,
                                        std::string spec_json) {
  if (auto st = check_endpoint_name(name); !st.ok()) co_return st.error();
  auto settings = settings_from_json(spec_json);
  if (!settings.ok()) co_return settings.error();
  if (deploys_ >= kMaxDeploysAtOnce) {
    co_return make_error(Code::kResourceExhausted, "too_many_deploys",
                         "{} deploys are under way, the limit; try again in a moment", deploys_);
  }
  ++deploys_;
  const auto mine = deploying_.insert(package);
  auto served = co_await deploy_checked(std::move(tenant), std::move(name), std::move(package), std::move(*settings));
  deploying_.erase(mine);
  --deploys_;
  co_return served;
}

Task<Result<ServedPtr>> Control::deploy_checked(std::string tenant, std::string name, std::string package,
                                                EndpointSettings checked) {
  auto settings = &checked;
  auto report = co_await build_artefact(package, artefact_path(package));
  if (!report.ok()) co_return report.error();
  VersionRow row{tenant, name, 0, package, settings_to_json(*settings), report->json, unix_ms()};
  if (auto tried = co_await try_out(row, *settings, *report); !tried.ok()) co_return tried.error();
  auto add = [this, &row] { return store_.add_version(row); };
  auto number = co_await blocking_.run(add);
  if (!number.ok()) co_return number.error();
  row.number = *number;
  auto served = serve(row, *settings, *report);
  EndpointPtr e = find(tenant, name);
  if (!e) {
    e = std::make_shared<Endpoint>();
    e->tenant = tenant;
    e->name = name;
    e->created_ms = row.created_ms;
    std::string key;
    make_key_text(key, tenant, name);
    endpoints_.emplace(key, e);
  }
  std::vector<std::string> old;
  for (const auto& [n, v] : e->versions) old.push_back(v->package);
  if (!e->live || e->live->version->number < row.number) put(e, *served);
  log_.event(name, fmt::format(R"({{"time":"{}","event":"deployed","endpoint":"{}","version":{}}})", Log::timestamp(),
                               name, row.number));
  const std::uint32_t keep_from = row.number >= kKeptVersions ? row.number - kKeptVersions + 1 : 1;
  auto prune = [this, &tenant, &name, keep_from] { return store_.prune_versions(tenant, name, keep_from); };
  static_cast<void>((co_await blocking_.run(prune)).ok());  // kept rows cost nothing but space
  co_await forget_packages(std::move(old));
  co_return std::move(*served);
}

Task<Status> Control::try_out(VersionRow row, EndpointSettings settings, CompileReport report) {
  settings.min_instances = 0;
  settings.max_instances = settings.concurrency = 1;
  auto trial = serve(row, settings, report);
  if (!trial.ok()) co_return trial.error();
  const VersionPtr version = (*trial)->version;  // number 0: the trial
  const std::uint64_t deadline = now_ns() + settings.timeout_ms * 1'000'000;
  auto refused = [&](std::string_view why) {
    return invalid("trial_failed", "\"{}\" was not deployed: its trial run failed: {}", row.endpoint, why);
  };
  auto lease = co_await node_->acquire(version, deadline);
  Status status = Ok{};
  if (!lease.ok()) {
    status = refused(lease.error().message);
  } else {
    SlotRequest& rq = lease->slot().request;
    InferRequest ignored;
    rq.kind = RequestKind::kProbe;
    rq.input_count = 0;
    if (!settings.sample_json.empty()) {
      status = parse_infer(settings.sample_json, std::nullopt, version->signature, rq, lease->input(), ignored);
    }
    if (status.ok()) {
      const CallOutcome outcome = co_await lease->run(deadline, 0);
      // Zeros need not suit a model (the compile job tried more than one shape): only a sample's answer counts.
      if (!outcome.result.ok())
        status = refused(outcome.result.error().message);
      else if (!settings.sample_json.empty() && outcome.result->status != SlotStatus::kOk) {
        status = refused(outcome.result->error_text);
      }
    }
    *lease = Lease();
  }
  node_->retire(*version);
  co_return status;
}

Task<void> Control::forget_packages(std::vector<std::string> digests) {
  for (const auto& [key, e] : endpoints_) {
    for (const auto& [n, v] : e->versions) std::erase(digests, v->package);
  }
  std::erase_if(digests, [this](const std::string& d) { return deploying_.contains(d); });
  std::vector<std::string> artefacts;
  for (const auto& d : digests) artefacts.push_back(artefact_path(d));
  auto drop = [this, &digests, &artefacts] {
    for (std::size_t i = 0; i < digests.size(); ++i) {
      static_cast<void>(packages_.remove(digests[i]).ok());  // open descriptors of running instances stay valid
      static_cast<void>(store_.forget_package(digests[i]).ok());
      unlink(artefacts[i].c_str());
    }
    return Ok{};
  };
  if (!digests.empty()) co_await blocking_.run(drop);
}

Task<Status> Control::remove(std::string tenant, std::string name) {
  EndpointPtr e = find(tenant, name);
  if (!e) co_return make_error(Code::kNotFound, "endpoint_not_found", "no endpoint \"{}\"", name);
  auto drop = [this, &tenant, &name] { return store_.delete_endpoint(tenant, name); };
  if (auto st = co_await blocking_.run(drop); !st.ok()) co_return st.error();
  std::string key;
  make_key_text(key, tenant, name);
  endpoints_.erase(key);
  std::vector<std::string> packages;
  for (const auto& [n, v] : e->versions) {
    node_->retire(*v->version);
    packages.push_back(v->package);
  }
  log_.forget(name);
  co_await forget_packages(std::move(packages));
  co_return Ok{};
}

Task<Result<std::uint64_t>> Control::quota_left(std::string tenant) {
  auto ask = [this, &tenant] { return store_.package_bytes_of(tenant); };
  auto used = co_await blocking_.run(ask);
  if (!used.ok()) co_return used.error();
  co_return *used >= options_.tenant_quota_bytes ? 0 : options_.tenant_quota_bytes - *used;
}

Task<Status> Control::restore() {
  auto endpoints = store_.endpoints();
  if (!endpoints.ok()) co_return endpoints.error();
  auto versions = store_.versions();
  if (!versions.ok()) co_return versions.error();
  for (const EndpointRow& row : *endpoints) {
    auto e = std::make_shared<Endpoint>();
    e->tenant = row.tenant;
    e->name = row.name;
    e->created_ms = row.created_ms;
    for (const VersionRow& v : *versions) {
      if (v.tenant != row.tenant || v.endpoint != row.name || v.number + kKeptVersions <= row.live_version) continue;
      auto settings = settings_from_json(v.settings_json);
      auto signature = signature_from_json(v.report_json);
      if (!settings.ok() || !signature.ok()) continue;
      const std::string path = artefact_path(v.package);
      if (access(path.c_str(), R_OK) != 0) {
        auto rebuilt = co_await build_artefact(v.package, path);
        if (!rebuilt.ok()) {
          log_.event(row.name,
                     fmt::format(R"({{"time":"{}","event":"artefact_lost","endpoint":"{}","version":{},"error":"{}"}})",
                                 Log::timestamp(), row.name, v.number, rebuilt.error().reason));
          continue;
        }
      }
      auto served = serve(v, *settings, CompileReport{*signature, v.report_json, 0});
      if (!served.ok()) continue;
      e->versions[v.number] = *served;
      if (v.number == row.live_version) e->live = *served;
    }
    if (!e->live) continue;
    std::string key;
    make_key_text(key, row.tenant, row.name);
    endpoints_.emplace(key, e);
    node_->keep(e->live->version);
  }
  co_return Ok{};
}

void Control::on_instance_event(const Version& v, std::uint64_t instance, std::string_view event,
                                std::string_view detail) {
  std::string line =
      fmt::format(R"({{"time":"{}","event":"instance_{}","endpoint":"{}","version":{},"instance":{},"detail":)",
                  Log::timestamp(), event, v.endpoint, v.number, instance);
  append_json_string(line, detail);
  line += '}';
  log_.event(v.endpoint, std::move(line));
}

}  // namespace mayfly
