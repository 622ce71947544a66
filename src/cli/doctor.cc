#include "cli/command.h"

namespace mayfly::cli {

void add_doctor(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("doctor", "what this machine grants: isolation, memory, runtime");
  cmd->footer(examples({"mayfly doctor", "mayfly doctor -o json"}));
  cmd->callback([&ctx] { ctx.run = [&ctx]() -> Result<int> { return ctx.doctor(ctx.json()); }; });
}

}  // namespace mayfly::cli
