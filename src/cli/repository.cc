#include "cli/repository.h"

#include <algorithm>
#include <filesystem>

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostInstances = 1000, kMostBatch = 1024;  // the server's bounds of `max` and `batch.max`

constexpr std::string_view kKnown[] = {
    "name",   "platform",       "backend",        "default_model_filename", "version_policy", "input",
    "output", "instance_group", "max_batch_size", "dynamic_batching",       "runtime"};

std::string datatype(std::string_view type) {
  if (type.starts_with("TYPE_")) type.remove_prefix(5);
  return type == "STRING" ? "BYTES" : std::string(type);
}

class Planner {
 public:
  Planner(const fs::path& folder, ImportPlan& plan) : folder_(folder), plan_(plan) { plan_.name = folder.filename(); }

  void run() {
    if (!read_config()) return;
    if (!backend_fits() || !choose_version()) return;
    batched_ = pb_number(config_.value("max_batch_size")).value_or(0) > 0;
    tensors("input", plan_.inputs);
    tensors("output", plan_.outputs);
    instances();
    batching();
    labels();
    for (const PbField& f : config_.fields) {
      if (std::find(std::begin(kKnown), std::end(kKnown), f.name) == std::end(kKnown)) warn("{} is not used", f.name);
    }
  }

 private:
  template <typename... A>
  void warn(fmt::format_string<A...> f, A&&... a) {
    plan_.warnings.push_back(fmt::format(f, std::forward<A>(a)...));
  }
  bool fail(std::string why) {
    plan_.kind = ImportPlan::Kind::kFail;
    plan_.why = std::move(why);
    return false;
  }
  bool skip(std::string why) {
    plan_.kind = ImportPlan::Kind::kSkip;
    plan_.why = std::move(why);
    return false;
  }

  bool read_config() {
    const fs::path file = folder_ / "config.pbtxt";
    std::error_code ec;
    if (!fs::exists(file, ec)) return true;
    auto text = read_file(file);
    if (!text) return fail(text.error().message);
    auto parsed = parse_pbtxt(*text);
    if (!parsed) return fail("config.pbtxt, " + parsed.error().message);
    config_ = std::move(*parsed);
    const std::string name = config_.value("name");
    if (!name.empty() && name != plan_.name)
      return fail(fmt::format("config.pbtxt names the model \"{}\", its folder \"{}\"", name, plan_.name));
    return true;
  }

  bool backend_fits() {
    for (const char* key : {"backend", "platform"}) {
      const std::string said = config_.value(key);
      if (said.empty() || said == "onnxruntime" || said == "onnxruntime_onnx") continue;
      return skip(fmt::format("{} \"{}\" is not supported; only onnxruntime is", key, said));
    }
    if (config_.find("ensemble_scheduling") != nullptr) return skip("ensembles are not supported");
    if (config_.find("sequence_batching") != nullptr)
      return skip("models with a state between requests are not supported");
    return true;
  }

  // The highest of the versions that version_policy lets through.
  bool choose_version() {
    std::vector<std::int64_t> numbers;
    std::error_code ec;
    for (const auto& entry : fs::directory_iterator(folder_, ec)) {
      const auto n = pb_number(entry.path().filename().string());
      if (n && *n > 0 && entry.is_directory(ec)) numbers.push_back(*n);
    }
    const PbField* policy = config_.find("version_policy");
    const PbField* specific = policy == nullptr ? nullptr : policy->find("specific");
    if (specific != nullptr) {
      std::vector<std::int64_t> wanted;
      for (const PbField* v : specific->all("versions")) wanted.push_back(pb_number(v->text).value_or(0));
      std::erase_if(numbers,
                    [&](std::int64_t n) { return std::find(wanted.begin(), wanted.end(), n) == wanted.end(); });
    }
    if (numbers.empty())
      return skip(specific != nullptr ? "it has none of the versions that version_policy names"
                                      : "it has no version folder");
    const std::int64_t chosen = *std::max_element(numbers.begin(), numbers.end());
    if (numbers.size() > 1 && policy != nullptr && policy->find("latest") == nullptr)
      warn("only version {} is deployed, of {}", chosen, numbers.size());
    std::string file = config_.value("default_model_filename");
    if (file.empty()) file = "model.onnx";
    const fs::path model = folder_ / std::to_string(chosen) / file;
    plan_.version = std::to_string(chosen);
    plan_.model = model;
    if (file.find('/') != std::string::npos) return fail("default_model_filename must be a file's name, not a path");
    if (fs::is_directory(model, ec)) return fail(fmt::format("{}/{} is a folder; one file is needed", chosen, file));
    if (fs::exists(model, ec)) return true;
    if (config_.value("backend").empty() && config_.value("platform").empty())
      return skip(fmt::format("{}/{} does not exist, and no configuration says what it is", chosen, file));
    return fail(fmt::format("{}/{} does not exist", chosen, file));
  }

  void tensors(std::string_view key, std::vector<ImportTensor>& out) {
    for (const PbField* f : config_.all(key)) {
      ImportTensor t;
      t.name = f->value("name");
      t.datatype = datatype(f->value("data_type"));
      if (batched_) t.dims.push_back(-1);
      for (const PbField* d : f->all("dims")) t.dims.push_back(pb_number(d->text).value_or(-1));
      if (f->find("reshape") != nullptr) {
        warn("reshape of \"{}\" is ignored: the model's own shape is served", t.name);
        t.dims.clear();
      }
      out.push_back(std::move(t));
    }
  }

  void instances() {
    std::int64_t count = 0;
    for (const PbField* g : config_.all("instance_group")) {
      count += pb_number(g->value("count")).value_or(1);
      if (g->value("kind") == "KIND_GPU") warn("instance_group asks for a GPU; models run on processors");
    }
    if (count > 0) plan_.spec["max"] = std::min(count, kMostInstances);
  }

  // dynamic_batching → the settings batch.max and batch.delay, queue and timeout.
  void batching() {
    const PbField* dynamic = config_.find("dynamic_batching");
    if (dynamic == nullptr) return;
    std::int64_t most = pb_number(config_.value("max_batch_size")).value_or(0);
    std::int64_t preferred = 0;
    for (const PbField* p : dynamic->all("preferred_batch_size"))
      preferred = std::max(preferred, pb_number(p->text).value_or(0));
    if (preferred > 0) most = std::min(most, preferred);
    if (most > 1) plan_.spec["batch"]["max"] = std::min(most, kMostBatch);
    const auto delay = pb_number(dynamic->value("max_queue_delay_microseconds"));
    if (most > 1 && delay && *delay > 0) plan_.spec["batch"]["delay"] = fmt::format("{}us", *delay);
    if (const PbField* policy = dynamic->find("default_queue_policy")) {
      if (const auto n = pb_number(policy->value("max_queue_size")); n && *n > 0) plan_.spec["queue"] = *n;
      if (const auto us = pb_number(policy->value("default_timeout_microseconds")); us && *us > 0)
        plan_.spec["timeout"] = fmt::format("{}ms", std::max<std::int64_t>(1, *us / 1000));
    }
    for (const PbField& f : dynamic->fields) {
      if (f.name != "preferred_batch_size" && f.name != "max_queue_delay_microseconds" &&
          f.name != "default_queue_policy")
        warn("dynamic_batching.{} is not used", f.name);
    }
  }

  // label_filename of an output that is a row of scores → output.classes.
  void labels() {
    for (const PbField* f : config_.all("output")) {
      const std::string file = f->value("label_filename"), name = f->value("name"),
                        type = datatype(f->value("data_type"));
      if (file.empty()) continue;
      const bool scores = type == "FP16" || type == "FP32" || type == "FP64";
      if (f->all("dims").size() != 1 || !scores || plan_.spec.contains("output")) {
        warn("the labels of \"{}\" are not used: of one output of floating-point scores in one dimension they can be",
             name);
        continue;
      }
      auto text = read_file(folder_ / file);
      auto labels = text ? parse_labels(*text, file) : Result<Json>(text.error());
      if (!labels) {
        warn("{}", labels.error().message);
        continue;
      }
      plan_.spec["output"]["classes"] = {{"labels", std::move(*labels)}, {"output", name}};
    }
  }

  fs::path folder_;
  ImportPlan& plan_;
  PbField config_;
  bool batched_ = false;
};

std::string shown(const std::vector<std::int64_t>& dims) { return fmt::format("[{}]", fmt::join(dims, ",")); }

void compare(const std::vector<ImportTensor>& said, const Json& found, std::string_view kind,
             std::vector<std::string>& out) {
  for (const ImportTensor& t : said) {
    const Json* match = nullptr;
    for (const Json& f : found) {
      if (f.value("name", "") == t.name) match = &f;
    }
    if (match == nullptr) {
      out.push_back(fmt::format("the model has no {} \"{}\"", kind, t.name));
      continue;
    }
    const std::string type = match->value("datatype", "");
    if (!t.datatype.empty() && t.datatype != type)
      out.push_back(fmt::format("{} \"{}\" is {} in the model, {} in config.pbtxt", kind, t.name, type, t.datatype));
    std::vector<std::int64_t> dims;
    for (const Json& d : match->value("shape", Json::array()))
      dims.push_back(d.is_number_integer() ? d.get<std::int64_t>() : -1);
    bool fits = t.dims.empty() || dims.size() == t.dims.size();
    for (std::size_t i = 0; fits && i < t.dims.size(); ++i)
      fits = t.dims[i] == -1 || dims[i] == -1 || dims[i] == t.dims[i];
    if (!fits)
      out.push_back(fmt::format("{} \"{}\" has shape {} in the model, {} in config.pbtxt", kind, t.name, shown(dims),
                                shown(t.dims)));
  }
}

}  // namespace

Result<std::vector<ImportPlan>> read_repository(const std::string& dir) {
  std::error_code ec;
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(dir, ec)) {
    std::error_code ignored;
    if (entry.is_directory(ignored) && entry.path().filename().string().front() != '.') folders.push_back(entry.path());
  }
  if (ec) return invalid("file_unreadable", "cannot read the model repository {}: {}", dir, ec.message());
  std::sort(folders.begin(), folders.end());
  std::vector<ImportPlan> plans;
  for (const fs::path& folder : folders) Planner(folder, plans.emplace_back()).run();
  return plans;
}

std::vector<std::string> signature_differences(const ImportPlan& plan, const Json& report) {
  std::vector<std::string> out;
  compare(plan.inputs, report.value("inputs", Json::array()), "input", out);
  compare(plan.outputs, report.value("outputs", Json::array()), "output", out);
  return out;
}

}  // namespace mayfly::cli
