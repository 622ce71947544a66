#include "cli/deploy_steps.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "base/fd.h"
#include "fetch/fetcher.h"

namespace mayfly::cli {
namespace {

constexpr std::int64_t kSampleElements = 16;  // larger inputs don't fit a command line

constexpr std::uint64_t kMaxFetchBytes = 64ULL << 30;  // the server's own limit is told at the upload

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

void add_source_flags(CLI::App& cmd, SourceFlags& flags) {
  cmd.add_flag("--on-server", flags.on_server,
               "let the server fetch an https, s3 or oci source; otherwise it is fetched here and uploaded");
  cmd.add_option("--allow-source", flags.allow_sources, "HOST[:PORT] that plain http is read from when fetching here");
}

namespace {

// Into a file without a name, with the user's own credentials and network.
Result<Fd> fetch_here(const Source& source, const SourceFlags& flags) {
  FetchOptions options;
  s3_from_environment(options);
  options.transport.policy.trust_own_network();
  for (const std::string& rule : flags.allow_sources) MAYFLY_TRY(options.transport.policy.allow(rule));
  auto fetcher = Fetcher::create(std::move(options));
  if (!fetcher) return std::move(fetcher.error());
  const char* dir = std::getenv("TMPDIR");
  const std::string folder = dir != nullptr && *dir != '\0' ? dir : "/tmp";
  Fd file(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file.valid())
    return errno_error(errno, fmt::format("make a temporary file in {} (TMPDIR names another)", folder));
  auto got = (*fetcher)->fetch(source, file.get(), kMaxFetchBytes);
  if (!got) return std::move(got.error());
  return file;
}

// Brings the model to the server: the body of POST …/versions.
Result<Json> hand_over(const Context& ctx, Client& client, const std::string& model, const SourceFlags& flags) {
  auto source = parse_source(model);
  if (!source) return std::move(source.error());
  const bool remote = source->kind != SourceKind::kFile;
  if (remote && flags.on_server) return Json{{"source", model}};
  auto start = Clock::now();
  const auto step = [&](const char* what, std::uint64_t bytes) {
    if (ctx.json()) return;
    fmt::print("{:<8} {}  {}  {:.2f} s\n", what, source->shown, human_bytes(bytes), seconds_since(start));
    std::fflush(stdout);
    start = Clock::now();
  };
  std::string path = model;
  Fd fetched;
  if (remote) {
    auto file = fetch_here(*source, flags);
    if (!file) return std::move(file.error());
    fetched = std::move(*file);
    path = fmt::format("/proc/self/fd/{}", fetched.get());
    step("fetch", static_cast<std::uint64_t>(::lseek(fetched.get(), 0, SEEK_END)));
  }
  auto package = client.upload("/admin/v1/packages", path, source->shown);
  if (!package) return std::move(package.error());
  step("upload", number(*package, "bytes"));
  return Json{{"package", cell(*package, "digest")}};
}

void print_compiled(const Json& version, double seconds) {
  const Json& report = member(version, "report");
  std::string line = fmt::format("compile  {:.2f} s", seconds);
  if (report.contains("artefact_bytes")) line += ", artefact " + human_bytes(number(report, "artefact_bytes"));
  if (report.contains("load_ms")) line += fmt::format(", load {} ms", cell(report, "load_ms"));
  if (report.contains("run_ms")) line += fmt::format(", run {} ms", cell(report, "run_ms"));
  if (report.contains("private_bytes")) line += ", private memory " + human_bytes(number(report, "private_bytes"));
  fmt::print("{}\n", line);
}

}  // namespace

Result<Json> deploy_model(const Context& ctx, Client& client, const std::string& name, const std::string& model,
                          const Json& spec, const SourceFlags& flags) {
  auto body = hand_over(ctx, client, model, flags);
  if (!body) return body;
  (*body)["spec"] = spec;
  const auto start = Clock::now();
  auto version = client.call("POST", "/admin/v1/endpoints/" + url_escape(name) + "/versions", *body);
  if (!version) return std::move(version.error());
  if (!ctx.json()) print_compiled(*version, seconds_since(start));
  if (version->is_object() && body->contains("package")) (*version)["package"] = (*body)["package"];
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
