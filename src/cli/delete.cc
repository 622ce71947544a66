#include "cli/command.h"

namespace mayfly::cli {
namespace {

Result<int> run_delete(const Context& ctx, const std::string& name) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->call("DELETE", "/admin/v1/endpoints/" + url_escape(name));
  if (!answer) return std::move(answer.error());
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
  } else {
    fmt::print("deleted {}\n", printable(name));
  }
  return 0;
}

}  // namespace

void add_delete(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("delete", "remove an endpoint with all its versions");
  auto name = std::make_shared<std::string>();
  cmd->add_option("NAME", *name, "endpoint")->required()->check(non_empty());
  cmd->footer(examples({"mayfly delete iris"}));
  cmd->callback([&ctx, name] { ctx.run = [&ctx, name] { return run_delete(ctx, *name); }; });
}

}  // namespace mayfly::cli
