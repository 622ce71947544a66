// Endpoint files: YAML documents of `name`, `model` and `spec`. See spec.h.
#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cmath>
#include <exception>
#include <filesystem>

#include "cli/spec.h"
#include "fetch/source.h"

namespace mayfly::cli {
namespace {

constexpr int kMaxDepth = 32;  // recursion; the deepest setting is at four

// A plain scalar is what JSON would call it (null, true, a number), else text; a quoted one is text.
Json scalar(const YAML::Node& n) {
  const std::string& s = n.Scalar();
  if (n.Tag() == "!") return s;
  if (s == "true") return true;
  if (s == "false") return false;
  if (s == "null" || s == "~" || s.empty()) return nullptr;
  const char* end = s.data() + s.size();
  std::int64_t i = 0;
  if (const auto r = std::from_chars(s.data(), end, i); r.ec == std::errc() && r.ptr == end) {
    return i < 0 ? Json(i) : Json(static_cast<std::uint64_t>(i));
  }
  double d = 0;
  if (const auto r = std::from_chars(s.data(), end, d); r.ec == std::errc() && r.ptr == end && std::isfinite(d))
    return d;
  return s;
}

Result<Json> to_json(const YAML::Node& n, int depth) {
  if (depth > kMaxDepth) return invalid("invalid_endpoint_file", "nested deeper than {} levels", kMaxDepth);
  if (n.IsScalar()) return scalar(n);
  if (n.IsSequence()) {
    Json out = Json::array();
    for (const auto& item : n) {
      auto v = to_json(item, depth + 1);
      if (!v) return v;
      out.push_back(std::move(*v));
    }
    return out;
  }
  if (n.IsMap()) {
    Json out = Json::object();
    for (const auto& entry : n) {
      auto v = to_json(entry.second, depth + 1);
      if (!v) return v;
      out[entry.first.as<std::string>()] = std::move(*v);
    }
    return out;
  }
  return Json(nullptr);
}

std::string beside(const std::string& file, const std::string& path) {
  if (is_remote_source(path)) return path;
  const std::filesystem::path p(path);
  return p.is_absolute() || file == "-" ? path
                                        : (std::filesystem::path(file).parent_path() / p).lexically_normal().string();
}

// labels_file: PATH under output.classes becomes labels: […].
Status load_labels(Json& spec, const std::string& path) {
  if (!spec.contains("output") || !spec["output"].is_object()) return Ok{};
  Json& output = spec["output"];
  if (!output.contains("classes") || !output["classes"].is_object()) return Ok{};
  Json& classes = output["classes"];
  if (!classes.contains("labels_file")) return Ok{};
  if (!classes["labels_file"].is_string()) return invalid("invalid_endpoint_file", "labels_file is not a path");
  if (classes.contains("labels")) return invalid("invalid_endpoint_file", "give labels or labels_file, not both");
  const std::string file = beside(path, classes["labels_file"].get<std::string>());
  auto text = read_file(file);
  if (!text) return std::move(text.error());
  auto labels = parse_labels(*text, file);
  if (!labels) return std::move(labels.error());
  classes.erase("labels_file");
  classes["labels"] = std::move(*labels);
  return Ok{};
}

Result<EndpointFile> from_document(const Json& doc, const std::string& path) {
  if (!doc.is_object()) return invalid("invalid_endpoint_file", "expected `name`, `model` and `spec`");
  for (const auto& [key, v] : doc.items()) {
    if (key != "name" && key != "model" && key != "spec") {
      return invalid("unknown_setting", "unknown setting \"{}\"{}", key, suggestion(key, {"name", "model", "spec"}));
    }
  }
  EndpointFile out;
  // A name such as 2024 is a number in YAML and a name all the same.
  if (doc.contains("name") && !doc["name"].is_structured() && !doc["name"].is_null()) {
    out.name = doc["name"].is_string() ? doc["name"].get<std::string>() : doc["name"].dump();
  }
  if (doc.contains("model") && doc["model"].is_string()) out.model = beside(path, doc["model"].get<std::string>());
  if (out.name.empty() || out.model.empty()) {
    return invalid("invalid_endpoint_file", "`name` and `model` (a path or another source) are needed");
  }
  if (doc.contains("spec") && !doc["spec"].is_null()) {
    if (!doc["spec"].is_object()) return invalid("invalid_endpoint_file", "`spec` is not a mapping of settings");
    out.spec = doc["spec"];
  }
  MAYFLY_TRY(load_labels(out.spec, path));
  return out;
}

}  // namespace

Result<std::vector<EndpointFile>> parse_endpoint_file(const std::string& text, const std::string& path) {
  std::vector<EndpointFile> out;
  try {
    for (const YAML::Node& node : YAML::LoadAll(text)) {
      if (node.IsNull()) continue;
      auto doc = to_json(node, 0);
      if (!doc) return invalid(doc.error().reason, "{}: {}", path, doc.error().message);
      auto endpoint = from_document(*doc, path);
      if (!endpoint) return invalid(endpoint.error().reason, "{}: {}", path, endpoint.error().message);
      out.push_back(std::move(*endpoint));
    }
  } catch (const std::exception& e) {
    return invalid("invalid_endpoint_file", "{}: {}", path, e.what());
  }
  if (out.empty())
    return invalid("invalid_endpoint_file", "{}: no endpoint in it; write `name`, `model` and `spec`", path);
  return out;
}

}  // namespace mayfly::cli
