#include "cli/command.h"
#include "cli/spec.h"

namespace mayfly::cli {
namespace {

struct InvokeOptions {
  std::string name;
  std::string input, image, data;
  std::uint32_t version = 0;  // 0: the newest
};

struct Request {
  std::string path;
  std::string body;
  std::string content_type;
};

std::string picture_type(std::string_view bytes) {
  if (bytes.starts_with("\x89PNG")) return "image/png";
  if (bytes.starts_with("\xFF\xD8")) return "image/jpeg";
  return "application/octet-stream";
}

std::string infer_path(const InvokeOptions& o) {
  std::string path = "/v2/models/" + url_escape(o.name);
  if (o.version) path += fmt::format("/versions/{}", o.version);
  return path + "/infer";
}

Result<Request> request_of(const InvokeOptions& o) {
  Request r;
  if (!o.input.empty() || !o.image.empty()) {
    auto body = read_file(o.input.empty() ? o.image : o.input);
    if (!body) return std::move(body.error());
    r.body = std::move(*body);
  } else if (o.data.starts_with('@')) {
    auto body = read_file(o.data.substr(1));
    if (!body) return std::move(body.error());
    r.body = std::move(*body);
  } else {
    r.body = o.data;
  }
  const bool json = o.image.empty() && (!o.input.empty() || Json::accept(r.body));
  // Raw data that is an inference request goes where such requests go.
  const bool infer = !o.input.empty() || (json && Json::parse(r.body, nullptr, false).contains("inputs"));
  if (o.version && !infer) {
    return invalid("bad_usage", "--version works with --input only: raw bytes go to the newest version");
  }
  r.path = infer ? infer_path(o) : "/predictions/" + url_escape(o.name);
  r.content_type = json ? "application/json" : picture_type(r.body);
  return r;
}

void print_cost(const Answer& a) {
  std::string line = fmt::format("HTTP {} in {:.1f} ms", a.status, a.seconds * 1000);
  if (const auto timing = a.headers.find("server-timing"); timing != a.headers.end()) {
    const char* separator = ": ";
    for (const auto& [phase, ms] : parse_server_timing(timing->second)) {
      line += fmt::format("{}{} {:.2f} ms", separator, phase, ms);
      separator = ", ";
    }
  }
  fmt::print(stderr, "{}\n", line);
}

Result<int> run_invoke(const Context& ctx, const InvokeOptions& o) {
  auto request = request_of(o);
  if (!request) return std::move(request.error());
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->request("POST", request->path, request->body, request->content_type);
  if (!answer) return std::move(answer.error());
  print_cost(*answer);
  if (answer->status < 200 || answer->status >= 300) return error_from_answer(*answer);
  std::fwrite(answer->body.data(), 1, answer->body.size(), stdout);
  if (!answer->body.ends_with('\n')) fmt::print("\n");
  return 0;
}

}  // namespace

void add_invoke(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("invoke", "ask an endpoint for a prediction");
  auto o = std::make_shared<InvokeOptions>();
  cmd->add_option("NAME", o->name, "endpoint")->required()->check(non_empty());
  auto* what = cmd->add_option_group("input", "one of these");
  what->add_option("--input", o->input,
                   "file with an inference request as JSON ({\"inputs\": …}); - is standard input");
  what->add_option("--image", o->image, "picture (PNG, JPEG)");
  what->add_option("--data", o->data, "the body itself, or @FILE");
  what->require_option(1);
  cmd->add_option("--version", o->version, "a version other than the newest")->check(CLI::PositiveNumber);
  cmd->footer(
      examples({"mayfly invoke iris --input request.json", "mayfly invoke cats --image cat.png",
                "mayfly invoke iris --version 2 --data \\",
                "    '{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,4],\"data\":[5,3,1,0]}]}'"}));
  cmd->callback([&ctx, o] { ctx.run = [&ctx, o] { return run_invoke(ctx, *o); }; });
}

}  // namespace mayfly::cli
