#include "cli/deploy_steps.h"

#include <chrono>

namespace mayfly::cli {
namespace {

constexpr std::int64_t kSampleElements = 16;  // larger inputs don't fit a command line

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A request of zeros for this signature, or null if that would be too long to show.
Json sample_request(const Json& inputs) {
  Json request = {{"inputs", Json::array()}};
  if (!inputs.is_array() || inputs.empty()) return nullptr;
  for (const auto& input : inputs) {
    std::int64_t elements = 1;
    Json shape = Json::array();
    const Json& dims = member(input, "shape");
    for (const auto& dim : dims) {
      const std::int64_t d = dim.is_number_integer() && dim.get<std::int64_t>() > 0 ? dim.get<std::int64_t>() : 1;
      if (d > kSampleElements) return nullptr;
      elements *= d;
      if (elements > kSampleElements) return nullptr;
      shape.push_back(d);
    }
    const std::string type = cell(input, "datatype");
    const Json zero = type == "BYTES" ? Json("") : type == "BOOL" ? Json(false) : Json(0);
    request["inputs"].push_back({{"name", cell(input, "name")},
                                 {"datatype", type},
                                 {"shape", shape},
                                 {"data", Json::array_t(static_cast<std::size_t>(elements), zero)}});
  }
  return request;
}

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string curl_line(const Json& answer, const Json& spec, const std::string& server, bool has_key) {
  std::string line = "curl";
  if (has_key) line += " -H \"Authorization: Bearer $MAYFLY_KEY\"";
  const std::string name = cell(answer, "name");
  if (!member(member(spec, "input"), "image").is_null()) {
    return line + fmt::format(" --data-binary @picture.png {}/predictions/{}", server, name);
  }
  const Json request = sample_request(member(member(answer, "report"), "inputs"));
  line += request.is_null() ? std::string(" -d @request.json") : " -d " + quoted(print_json(request));
  return line + fmt::format(" {}/v2/models/{}/infer", server, name);
}

}  // namespace

Result<Json> deploy_model(const Context& ctx, Client& client, const std::string& name, const std::string& model,
                          const Json& spec) {
  auto start = Clock::now();
  auto package = client.upload("/admin/v1/packages", model);
  if (!package) return std::move(package.error());
  if (!ctx.json()) {
    fmt::print("upload   {}  {}  {:.2f} s\n", model, human_bytes(number(*package, "bytes")), seconds_since(start));
    std::fflush(stdout);
  }
  start = Clock::now();
  const std::string digest = cell(*package, "digest");
  auto version = client.call("POST", "/admin/v1/endpoints/" + url_escape(name) + "/versions",
                             Json{{"package", digest}, {"spec", spec}});
  if (!version) return std::move(version.error());
  if (!ctx.json()) {
    const Json& report = member(*version, "report");
    std::string line = fmt::format("compile  {:.2f} s", seconds_since(start));
    if (report.contains("artefact_bytes")) line += ", artefact " + human_bytes(number(report, "artefact_bytes"));
    if (report.contains("load_ms")) line += fmt::format(", load {} ms", cell(report, "load_ms"));
    if (report.contains("run_ms")) line += fmt::format(", run {} ms", cell(report, "run_ms"));
    if (report.contains("private_bytes")) line += ", private memory " + human_bytes(number(report, "private_bytes"));
    fmt::print("{}\n", line);
  }
  if (version->is_object()) (*version)["package"] = digest;
  return version;
}

std::string render_signature(const Json& report) {
  std::vector<std::vector<std::string>> rows;
  for (const char* kind : {"inputs", "outputs"}) {
    for (const auto& t : member(report, kind)) {
      rows.push_back({std::string(kind).substr(0, std::string(kind).size() - 1), cell(t, "name"), cell(t, "datatype"),
                      cell(t, "shape")});
    }
  }
  return rows.empty() ? std::string() : render_table({"TENSOR", "NAME", "TYPE", "SHAPE"}, rows);
}

std::string render_deployed(const Json& answer, const Json& spec, const std::string& server, bool has_key) {
  const std::string url = cell(answer, "url");
  std::string out = fmt::format("\nname     {}\nversion  {}\nurl      {}{}\n", cell(answer, "name"),
                                cell(answer, "version"), url.starts_with('/') ? server : "", url);
  const std::string signature = render_signature(member(answer, "report"));
  if (!signature.empty()) out += "\n" + signature;
  return out + "\nTry it:\n  " + curl_line(answer, spec, server, has_key) + "\n";
}

}  // namespace mayfly::cli
