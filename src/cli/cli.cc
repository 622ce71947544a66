#include "cli/cli.h"

#include <cstdlib>
#include <exception>

#include "cli/command.h"
#include "cli/config.h"
#include "cli/table.h"

namespace mayfly {
namespace cli {

std::string examples(std::initializer_list<const char*> lines) {
  std::string out = "Examples:\n";
  for (const char* line : lines) out += fmt::format("  {}\n", line);
  return out;
}

CLI::Validator non_empty() {
  return CLI::Validator([](std::string& text) { return text.empty() ? std::string("must not be empty") : ""; }, "");
}

void build_app(CLI::App& app, Context& ctx) {
  app.name("mayfly");
  app.fallthrough();  // global flags may follow the command's name
  app.require_subcommand(1);
  app.add_option("--server", ctx.server, "address of the server [http://127.0.0.1:8080] (MAYFLY_SERVER)");
  app.add_option("--key", ctx.key, "API key (MAYFLY_KEY); both may be in ~/.config/mayfly/config.yaml");
  app.add_option("--ca-file", ctx.ca_file, "authorities of an https:// server, PEM [the system's] (MAYFLY_CA_FILE)");
  app.add_option("-o,--output", ctx.output, "table or json")->check(CLI::IsMember({"table", "json"}));
  app.set_version_flag("--version", MAYFLY_VERSION);
  add_serve(app, ctx);
  add_deploy(app, ctx);
  add_apply(app, ctx);
  add_import(app, ctx);
  add_get(app, ctx);
  add_list(app, ctx);
  add_delete(app, ctx);
  add_invoke(app, ctx);
  add_explain(app, ctx);
  add_wake(app, ctx);
  add_logs(app, ctx);
  add_top(app, ctx);
  add_keys(app, ctx);
  add_doctor(app, ctx);
  add_version(app, ctx);
  add_completion(app, ctx);
  app.footer(examples({"mayfly serve", "mayfly deploy iris model.onnx", "mayfly invoke iris --input request.json",
                       "mayfly COMMAND --help"}));
}

Result<std::unique_ptr<Client>> open_client(const Context& ctx) {
  const auto env = [](const char* name) {
    const char* v = std::getenv(name);
    return std::string(v ? v : "");
  };
  auto c = resolve_connection({ctx.server, ctx.key, ctx.ca_file},
                              {env("MAYFLY_SERVER"), env("MAYFLY_KEY"), env("MAYFLY_CA_FILE")},
                              default_config_path(env("XDG_CONFIG_HOME"), env("HOME")));
  if (!c) return std::move(c.error());
  return Client::create(std::move(*c));
}

namespace {

int report(const Context& ctx, const Error& e) {
  if (ctx.json()) {
    fmt::print(stderr, "{}\n", print_json(Json{{"error", e.message}, {"reason", e.reason}}));
  } else {
    fmt::print(stderr, "mayfly: {}\n", printable(e.message));
  }
  return exit_status_for_http(http_status(e));
}

int parse_error(const CLI::App& app, const CLI::ParseError& e) {
  if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
  const CLI::App* at = &app;
  std::string path = app.get_name();
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    path += " " + at->get_name();
  }
  fmt::print(stderr, "mayfly: {}\nSee `{} --help`.\n", e.what(), path);
  return 2;
}

}  // namespace
}  // namespace cli

int run_cli(int argc, char** argv, ServeFunction serve, DoctorFunction doctor) {
  cli::Context ctx;
  ctx.serve = serve;
  ctx.doctor = doctor;
  CLI::App app("Serverless inference: give it a model, get a URL.");
  try {
    cli::build_app(app, ctx);
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return cli::parse_error(app, e);
  }
  try {
    const Result<int> r = ctx.run();
    std::fflush(stdout);
    return r ? *r : cli::report(ctx, r.error());
  } catch (const std::exception& e) {  // a library's: an answer of a shape that the API does not have, no memory
    return cli::report(ctx, make_error(Code::kInternal, "unexpected_answer", "unexpected failure: {}", e.what()));
  }
}

}  // namespace mayfly
