#include "cli/command.h"

namespace mayfly::cli {

void add_version(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("version", "the version of this program");
  cmd->footer(examples({"mayfly version", "mayfly version -o json"}));
  cmd->callback([&ctx] {
    ctx.run = [&ctx]() -> Result<int> {
      if (ctx.json()) {
        fmt::print("{}\n", print_json(Json{{"version", MAYFLY_VERSION}}));
      } else {
        fmt::print("mayfly {}\n", MAYFLY_VERSION);
      }
      return 0;
    };
  });
}

}  // namespace mayfly::cli
