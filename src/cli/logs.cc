#include "cli/command.h"

namespace mayfly::cli {
namespace {

Result<int> run_logs(const Context& ctx, const std::string& name, std::uint32_t tail) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->call("GET", fmt::format("/admin/v1/endpoints/{}/logs?tail={}", url_escape(name), tail));
  if (!answer) return std::move(answer.error());
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
    return 0;
  }
  for (const auto& line : member(*answer, "lines")) {
    fmt::print("{}\n", printable(line.is_string() ? line.get<std::string>() : print_json(line)));
  }
  return 0;
}

}  // namespace

void add_logs(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("logs", "the last log lines of an endpoint");
  auto name = std::make_shared<std::string>();
  auto tail = std::make_shared<std::uint32_t>(100);
  cmd->add_option("NAME", *name, "endpoint")->required()->check(non_empty());
  cmd->add_option("--tail", *tail, "how many lines")->capture_default_str();
  cmd->footer(examples({"mayfly logs iris --tail 20"}));
  cmd->callback([&ctx, name, tail] { ctx.run = [&ctx, name, tail] { return run_logs(ctx, *name, *tail); }; });
}

}  // namespace mayfly::cli
