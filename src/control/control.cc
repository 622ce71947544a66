#include "control/control.h"

#include <algorithm>
#include <tuple>

#include "control/measures_text.h"
#include "control/server_event.h"
#include "tensor/json.h"
#include "worker_ipc/oip.h"

namespace mayfly {
namespace {

void make_key_text(std::string& out, std::string_view tenant, std::string_view name) {
  out.assign(tenant);
  out += '/';
  out += name;
}

constexpr std::uint32_t kAutomaticBatch = 32;  // rows, where the owner says nothing

NodeSettings node_settings(const EndpointSettings& s) {
  NodeSettings n;
  n.memory_bytes = s.memory_bytes;
  n.cpu_milli = s.cpu_milli;
  n.threads = s.threads;
  n.min_instances = s.min_instances;
  n.parked = s.parked;
  n.provisioned = s.provisioned;
  n.cold_start_budget_ms = s.cold_start_budget_ms;
  n.max_instances = s.max_instances;
  n.concurrency = s.concurrency;
  n.idle_ms = s.idle_ms;
  n.timeout_ms = s.timeout_ms;
  n.queue = s.queue;
  n.batch_delay_us = s.batch_delay_us;
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

// Rows are joined only where the deploy has tried that they do not influence each other.
Status set_batch(const EndpointSettings& s, const CompileReport& report, Version& v) {
  if (s.batch_max > 1 && !report.rows_independent) {
    return invalid(
        "batch_not_possible",
        "batch.max is {}, but requests to this model can't be joined: {}; set batch.max to 1 or leave it out",
        s.batch_max,
        has_batch_dimension(report.signature)
            ? "its rows influence each other, as a run of three rows showed"
            : "its inputs and outputs don't have a free first dimension and otherwise fixed inputs");
  }
  v.settings.batch_max = s.batch_max != 0 ? s.batch_max : report.rows_independent ? kAutomaticBatch : 1;
  v.batch = plan_batch(v.signature, v.settings.batch_max, v.settings.max_request_bytes, v.settings.max_response_bytes);
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

// The oldest version that is kept beside the live one.
std::uint32_t keep_from(std::uint32_t live) {
  return live >= Control::kKeptVersions ? live - Control::kKeptVersions + 1 : 1;
}

// The error is about what was asked for, not about the state of this server: the same deploy would fail again. A
// package that has no room shall not take any.
bool is_refusal(const Error& e) {
  return e.reason == "disk_quota_exceeded" || e.code == Code::kInvalidArgument || e.code == Code::kNotFound ||
         e.code == Code::kDataLoss;
}

// What the version itself brings about: it ended or hung in its run. Anything else (the server stops, no sandbox can be
// made) says nothing about the version.
bool version_caused(const Error& e) { return e.reason == "instance_failed" || e.code == Code::kDeadlineExceeded; }

}  // namespace

EndpointPtr Control::find(std::string_view tenant, std::string_view name) const {
  make_key_text(lookup_, tenant, name);
  auto it = endpoints_.find(lookup_);
  return it == endpoints_.end() ? nullptr : it->second;
}

const std::vector<EndpointPtr>& Control::all() const {
  if (sorted_at_ == changes_) return sorted_;
  sorted_.clear();
  sorted_.reserve(endpoints_.size());
  for (const auto& [key, e] : endpoints_) sorted_.push_back(e);
  std::sort(sorted_.begin(), sorted_.end(), [](const EndpointPtr& a, const EndpointPtr& b) {
    return std::tie(a->tenant, a->name) < std::tie(b->tenant, b->name);
  });
  sorted_at_ = changes_;
  return sorted_;
}

std::vector<EndpointPtr> Control::list(std::string_view tenant) const {
  std::vector<EndpointPtr> out;
  for (const EndpointPtr& e : all()) {
    if (e->tenant == tenant) out.push_back(e);
  }
  return out;
}

Task<Result<std::vector<VersionRow>>> Control::stored_versions(std::string tenant, std::string name) {
  auto read = [this, &tenant, &name] { return store_.versions_of(tenant, name); };
  co_return co_await blocking_.run(read);
}

Result<ServedPtr> Control::serve(const VersionRow& row, const EndpointSettings& settings, const CompileReport& report) {
  auto v = std::make_shared<Version>();
  v->tenant = row.tenant;
  v->endpoint = row.endpoint;
  v->number = row.number;
  v->number_text = std::to_string(row.number);
  v->signature = report.signature;
  v->settings = node_settings(settings);
  v->artefact_path = artefacts_.path(row.package);
  v->package = row.package;
  const auto file = artefacts_.file_of(row.package);
  if (file->bytes == 0) file->bytes = report.artefact_bytes;
  v->artefact = file;
  if (!report.working_set.empty()) v->prefetch = std::make_shared<Prefetch>(report.working_set);
  v->tier = report.tier;
  v->tier.allowed = v->tier.allowed && settings.tier_up;
  v->heap_bytes = report.private_bytes;
  MAYFLY_TRY(set_batch(settings, report, *v));
  if (settings.image) MAYFLY_TRY(set_image(*settings.image, report.signature, v->transform));
  if (settings.classes) MAYFLY_TRY(set_classes(*settings.classes, report.signature, v->transform));
  auto served = std::make_shared<ServedVersion>();
  served->version = std::move(v);
  served->settings = settings;
  served->settings.sample_json = {};
  served->package = row.package;
  return ServedPtr(std::move(served));
}

void Control::put(const EndpointPtr& e, ServedPtr served) {
  ++changes_;
  if (e->live) node_->retire(*e->live->version);
  e->versions[served->version->number] = served;
  e->live = std::move(served);
  while (e->versions.size() > kKeptVersions) {
    node_->retire(*e->versions.begin()->second->version);
    e->versions.erase(e->versions.begin());
  }
  node_->keep(e->live->version);
}

// What is wrong with the request itself is said before anything is fetched or compiled.
Result<Control::Draft> Control::draft(std::string tenant, std::string name, std::string_view spec_json) const {
  MAYFLY_TRY(check_endpoint_name(name));
  auto settings = settings_from_json(spec_json);
  if (!settings.ok()) return settings.error();
  if (deploys_ >= kMaxDeploysAtOnce) {
    return make_error(Code::kResourceExhausted, "too_many_deploys",
                      "{} deploys are under way, the limit; try again in a moment", deploys_);
  }
  return Draft{std::move(tenant), std::move(name), "", std::move(*settings)};
}

Task<Result<Deployed>> Control::deploy(std::string tenant, std::string name, std::string package,
                                       std::string spec_json) {
  auto d = draft(std::move(tenant), std::move(name), spec_json);
  if (!d.ok()) co_return d.error();
  d->package = std::move(package);
  ++deploys_;
  auto served = co_await deploy_draft(std::move(*d));
  --deploys_;
  co_return served;
}

Task<Result<Deployed>> Control::deploy_source(std::string tenant, std::string name, std::string source,
                                              std::string spec_json) {
  auto d = draft(std::move(tenant), std::move(name), spec_json);
  if (!d.ok()) co_return d.error();
  ++deploys_;
  auto package = co_await fetches_.package_of(d->tenant, std::move(source));
  Result<Deployed> served = Deployed();
  if (package.ok()) {
    d->package = std::move(*package);
    served = co_await deploy_draft(std::move(*d));
  } else {
    served = std::move(package.error());
  }
  --deploys_;
  co_return served;
}

Task<Result<Deployed>> Control::deploy_draft(Draft d) {
  std::vector<std::string> unused;
  auto hold = co_await artefacts_.hold(d.package);
  auto served = co_await deploy_checked(d.tenant, d.name, d.package, std::move(d.settings), unused);
  if (!served.ok() && is_refusal(served.error()))
    unused.push_back(d.package);
  else if (!served.ok())
    artefacts_.keep_for_retry(d.package);
  hold.release();
  co_await artefacts_.collect(std::move(unused));
  co_return served;
}

Task<Result<Deployed>> Control::deploy_checked(std::string tenant, std::string name, std::string package,
                                               EndpointSettings settings, std::vector<std::string>& old) {
  if (auto st = co_await artefacts_.ready(package, tenant); !st.ok()) co_return st.error();
  VersionRow row{tenant, name, 0, package, settings_to_json(settings), "", unix_ms()};
  auto prepared = co_await prepare(row, settings);
  if (!prepared.ok()) co_return prepared.error();
  co_return co_await commit(std::move(row), std::move(settings), std::move(*prepared), old);
}

Measures Control::measures_of(const VersionRow& row) const {
  const EndpointPtr e = find(row.tenant, row.endpoint);
  if (!e) return {};
  const auto version = e->versions.find(row.number);
  return version == e->versions.end() ? Measures() : node_->measure(*version->second->version);
}

// Only the tenant's own versions count: how long a deploy takes must not tell what another tenant has.
Task<Result<Control::Prepared>> Control::prepare(VersionRow& row, const EndpointSettings& settings) {
  auto look = [this, &row] { return store_.version_like(row.tenant, row.package, row.settings_json); };
  auto like = co_await blocking_.run(look);
  if (!like.ok()) co_return like.error();
  std::optional<CompileReport> known;
  if (*like) known = artefacts_.built(row.package, (*like)->report_json);
  if (known) {
    row.report_json = known->json;
    if ((*like)->settings_json == row.settings_json) co_return Prepared{std::move(*known), measures_of(**like)};
  }
  Result<CompileReport> report = known ? std::move(*known) : co_await artefacts_.build(row.package);
  if (!report.ok()) co_return report.error();
  row.report_json = report->json;
  auto tried = co_await try_out(row, settings, *report);
  if (!tried.ok()) co_return tried.error();
  co_return Prepared{std::move(*report), *tried};
}

Task<Result<Deployed>> Control::commit(VersionRow row, EndpointSettings settings, Prepared prepared,
                                       std::vector<std::string>& old) {
  std::string key;
  make_key_text(key, row.tenant, row.endpoint);
  auto turn = co_await turns_.take(key);
  row.measures_json = measures_to_json(prepared.measures);
  auto add = [this, &row] { return store_.add_version(row); };
  auto number = co_await blocking_.run(add);
  if (!number.ok()) co_return number.error();
  row.number = *number;
  auto served = serve(row, settings, prepared.report);
  MAYFLY_CHECK(served.ok());  // its trial was
  EndpointPtr& e = endpoints_[key];
  if (!e) {
    e = std::make_shared<Endpoint>();
    e->tenant = row.tenant;
    e->name = row.endpoint;
    e->created_ms = row.created_ms;
  }
  for (const auto& [n, v] : e->versions) old.push_back(v->package);
  node_->learn((*served)->version, prepared.measures);
  put(e, *served);
  log_.event(row.endpoint, fmt::format(R"({{"time":"{}","event":"deployed","endpoint":"{}","version":{}}})",
                                       Log::timestamp(), row.endpoint, row.number));
  const std::uint32_t from = keep_from(row.number);
  auto prune = [this, &row, from] { return store_.prune_versions(row.tenant, row.endpoint, from); };
  if (from > 1) static_cast<void>((co_await blocking_.run(prune)).ok());  // kept rows cost nothing but space
  co_return Deployed{std::move(*served), std::move(row.report_json)};
}

Task<Result<Measures>> Control::try_out(VersionRow row, EndpointSettings settings, CompileReport report) {
  settings.min_instances = settings.parked = 0;
  settings.provisioned.clear();
  settings.cold_start_budget_ms = 0;
  settings.max_instances = settings.concurrency = 1;
  auto trial = serve(row, settings, report);
  if (!trial.ok()) co_return trial.error();
  const VersionPtr version = (*trial)->version;  // number 0: the trial
  const std::uint64_t deadline = now_ns() + settings.timeout_ms * 1'000'000;
  auto refused = [&](std::string_view why) {
    return invalid("trial_failed", "\"{}\" was not deployed: its trial run failed: {}", row.endpoint, why);
  };
  Ask ask;
  ask.deadline_ns = deadline;
  auto lease = co_await node_->acquire(version, ask);
  Status status = Ok{};
  if (!lease.ok()) {
    status = lease.error();  // nothing of the version has run yet
  } else {
    SlotRequest rq;
    InferRequest ignored;
    rq.kind = RequestKind::kProbe;
    rq.input_count = 0;
    if (!settings.sample_json.empty()) {
      InputArea area = lease->area();
      status = parse_infer(settings.sample_json, std::nullopt, version->signature, rq, area, ignored);
    }
    if (status.ok()) {
      SlotResult result;
      const CallOutcome outcome = co_await lease->run(rq, result, deadline, nullptr);
      // Zeros need not suit a model (the compile job tried more than one shape): only a sample's answer counts.
      if (!outcome.status.ok()) {
        const Error& e = outcome.status.error();
        status = version_caused(e) ? refused(e.message) : e;
      } else if (!settings.sample_json.empty() && result.status != SlotStatus::kOk) {
        status = refused(result.error_text);
      }
    }
    *lease = Lease();
  }
  const Measures measures = node_->measure(*version);
  node_->retire(*version);
  if (!status.ok()) co_return std::move(status.error());
  co_return measures;
}

Task<Status> Control::remove(std::string tenant, std::string name) {
  std::string key;
  make_key_text(key, tenant, name);
  auto turn = co_await turns_.take(key);
  EndpointPtr e = find(tenant, name);
  if (!e) co_return make_error(Code::kNotFound, "endpoint_not_found", "no endpoint \"{}\"", name);
  auto drop = [this, &tenant, &name] { return store_.delete_endpoint(tenant, name); };
  if (auto st = co_await blocking_.run(drop); !st.ok()) co_return st.error();
  endpoints_.erase(key);
  ++changes_;
  std::vector<std::string> packages;
  for (const auto& [n, v] : e->versions) {
    node_->retire(*v->version);
    packages.push_back(v->package);
  }
  log_.forget(name);
  turn.give_back();
  co_await artefacts_.collect(std::move(packages));
  co_return Ok{};
}

// A version of the store; null if it can't be served. One whose package is nowhere is served all the same: who asks for
// it is told what is missing.
ServedPtr Control::restore_version(const VersionRow& row) {
  auto settings = settings_from_json(row.settings_json);
  auto report = read_stored_report(row.report_json);
  if (!settings.ok() || !report.ok()) return nullptr;
  auto served = serve(row, *settings, *report);
  if (!served.ok()) return nullptr;
  if (!remote_ && !artefact_there(*(*served)->version) && !artefacts_.package_here(row.package)) {
    log_.event(row.endpoint,
               fmt::format(R"({{"time":"{}","event":"artefact_lost","endpoint":"{}","version":{},"error":"{}"}})",
                           Log::timestamp(), row.endpoint, row.number, "package_not_found"));
  }
  return *served;
}

void Control::restore_endpoint(const EndpointRow& row, const std::vector<VersionRow>& versions) {
  auto e = std::make_shared<Endpoint>();
  e->tenant = row.tenant;
  e->name = row.name;
  e->created_ms = row.created_ms;
  for (const VersionRow& v : versions) {
    ServedPtr served = restore_version(v);
    if (!served) continue;
    if (!v.measures_json.empty()) node_->learn(served->version, measures_from_json(v.measures_json));
    e->versions[v.number] = served;
    if (v.number == row.live_version) e->live = std::move(served);
  }
  if (!e->live) return;
  std::string key;
  make_key_text(key, row.tenant, row.name);
  endpoints_.emplace(key, e);
  ++changes_;
  node_->keep(e->live->version);
}

Task<Status> Control::restore() {
  auto endpoints = store_.endpoints();
  if (!endpoints.ok()) co_return endpoints.error();
  auto versions = store_.versions();
  if (!versions.ok()) co_return versions.error();
  std::unordered_map<std::string, std::vector<VersionRow>> by_endpoint;
  std::string key;
  for (VersionRow& v : *versions) {
    make_key_text(key, v.tenant, v.endpoint);
    by_endpoint[key].push_back(std::move(v));
  }
  std::unordered_set<std::string> packages;
  for (const EndpointRow& e : *endpoints) {
    make_key_text(key, e.tenant, e.name);
    std::vector<VersionRow>& rows = by_endpoint[key];
    const std::uint32_t from = keep_from(e.live_version);
    // A deploy that was cut off has committed and not pruned.
    if (std::erase_if(rows, [from](const VersionRow& v) { return v.number < from; }) > 0)
      static_cast<void>(store_.prune_versions(e.tenant, e.name, from).ok());
    for (const VersionRow& v : rows) packages.insert(v.package);
  }
  std::vector<std::string> used(packages.begin(), packages.end());
  const Artefacts::Swept swept = co_await artefacts_.sweep(std::move(packages));
  if (swept.packages + swept.artefacts > 0) {
    log_.event("", fmt::format(R"({{"time":"{}","event":"swept","packages":{},"artefacts":{}}})", Log::timestamp(),
                               swept.packages, swept.artefacts));
  }
  if (auto st = artefacts_.load(); !st.ok()) co_return st.error();
  for (const EndpointRow& e : *endpoints) {
    make_key_text(key, e.tenant, e.name);
    restore_endpoint(e, by_endpoint[key]);
  }
  asio::co_spawn(executor_, settle_disk(std::move(used)), asio::detached);
  co_return Ok{};
}

Task<Status> Control::keep_measures() {
  std::vector<Store::VersionMeasures> all;
  for (const auto& [key, e] : endpoints_) {
    for (const auto& [number, served] : e->versions) {
      const VersionRecord* r = node_->record(*served->version);
      if (r == nullptr || r->counters.starts == 0) continue;
      all.push_back({e->tenant, e->name, number, measures_to_json(node_->measure(*served->version))});
    }
  }
  auto note = [this, &all] { return store_.note_measures(all); };
  co_return co_await blocking_.run(note);
}

void Control::set_bucket(const Bucket& bucket) {
  remote_ = std::make_unique<RemotePackages>(bucket, packages_, options_.max_package_bytes, log_);
  artefacts_.set_remote(*remote_);
  disk_.set_remote(*remote_);
}

// After a start, beside the requests: packages that came here before there was a bucket go there, and the quota is
// kept. A bucket that can't be reached is asked again, ever more seldom.
Task<void> Control::settle_disk(std::vector<std::string> packages) {
  constexpr std::chrono::seconds kFirstPause{5}, kLongestPause{300};
  if (auto st = co_await disk_.make_room(0, 0); !st.ok())
    log_server_event(log_, "disk_quota_exceeded", st.error().message);
  if (!remote_) co_return;
  Timer timer(executor_);
  auto pause = kFirstPause;
  Status reached = co_await remote_->reach();
  for (bool told = false;;) {
    for (const std::string& package : packages) {
      if (!reached.ok()) break;
      auto hold = co_await artefacts_.pin(package);
      if (!artefacts_.package_here(package)) continue;
      const Status sent = co_await remote_->secure(package);
      if (!sent.ok() && sent.error().code == Code::kUnavailable) reached = sent.error();
      if (!sent.ok() && sent.error().code != Code::kUnavailable)
        log_server_event(log_, "package_not_stored", sent.error().message);
    }
    if (reached.ok()) break;
    if (!std::exchange(told, true)) log_server_event(log_, "package_store_unavailable", reached.error().message);
    timer.expires_after(pause);
    if (auto [ec] = co_await timer.async_wait(use_result); ec) co_return;
    pause = std::min(pause * 2, kLongestPause);
    reached = co_await remote_->reach();
  }
  co_await artefacts_.collect(std::move(packages));  // what was deleted while it was held
  static_cast<void>((co_await disk_.make_room(0, 0)).ok());
}

void Control::on_instance_event(const Version& v, std::uint64_t instance, std::string_view event,
                                std::string_view detail) {
  if (event == "tier_packed") {
    if (const EndpointPtr e = find(v.tenant, v.endpoint)) ++e->metrics.tier_ups;
  }
  const bool artefact = event.starts_with("artefact_");
  if (const EndpointPtr e = artefact ? find(v.tenant, v.endpoint) : nullptr) {
    e->metrics.rebuilt += event == "artefact_rebuilt" ? 1 : 0;
    e->metrics.fetched += event == "artefact_fetched" ? 1 : 0;
  }
  std::string line = fmt::format(R"({{"time":"{}","event":"{}{}","endpoint":"{}","version":{},"instance":{},"detail":)",
                                 Log::timestamp(), artefact ? "" : "instance_", event, v.endpoint, v.number, instance);
  append_json_string(line, detail);
  line += '}';
  log_.event(v.endpoint, std::move(line));
}

}  // namespace mayfly
