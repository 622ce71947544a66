#include "cli/command.h"
#include "cli/views.h"

namespace mayfly::cli {
namespace {

Result<int> run_list(const Context& ctx) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->call("GET", "/admin/v1/endpoints");
  if (!answer) return std::move(answer.error());
  const Json& endpoints = member(*answer, "endpoints");
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
  } else if (endpoints.empty()) {
    fmt::print("no endpoints; `mayfly deploy NAME MODEL` makes one\n");
  } else {
    fmt::print("{}", endpoints_table(endpoints, unix_ms()));
  }
  return 0;
}

}  // namespace

void add_list(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("list", "all endpoints");
  cmd->footer(examples({"mayfly list", "mayfly list -o json"}));
  cmd->callback([&ctx] { ctx.run = [&ctx] { return run_list(ctx); }; });
}

}  // namespace mayfly::cli
