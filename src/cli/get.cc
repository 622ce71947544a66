#include "cli/command.h"
#include "cli/deploy_steps.h"
#include "cli/views.h"

namespace mayfly::cli {
namespace {

void print_endpoint(const Json& e) {
  fmt::print("name      {}\nversion   {}\nstate     {}\nrequests  {}\nerrors    {}\n", cell(e, "name"),
             cell(e, "version"), cell(e, "state"), cell(e, "requests"), cell(e, "errors"));
  const Json& versions = member(e, "versions");
  fmt::print("\n{}", versions_table(versions, unix_ms()));
  for (const auto& v : versions) {
    if (number(v, "number") != number(e, "version")) continue;
    const std::string signature = render_signature(member(v, "report"));
    if (!signature.empty()) fmt::print("\n{}", signature);
    Json spec = member(v, "spec");
    if (!member(member(member(spec, "output"), "classes"), "labels").is_null()) {
      Json& labels = spec["output"]["classes"]["labels"];
      labels = fmt::format("{} labels", labels.size());
    }
    if (!spec.empty()) fmt::print("\nspec {}\n", print_json(spec, 2));
  }
  if (!member(e, "instances").empty()) fmt::print("\n{}", instances_table(member(e, "instances")));
}

Result<int> run_get(const Context& ctx, const std::string& name) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->call("GET", "/admin/v1/endpoints/" + url_escape(name));
  if (!answer) return std::move(answer.error());
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
  } else {
    print_endpoint(*answer);
  }
  return 0;
}

}  // namespace

void add_get(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("get", "one endpoint: versions, tensors, settings, instances");
  auto name = std::make_shared<std::string>();
  cmd->add_option("NAME", *name, "endpoint")->required()->check(non_empty());
  cmd->footer(examples({"mayfly get iris", "mayfly get iris -o json"}));
  cmd->callback([&ctx, name] { ctx.run = [&ctx, name] { return run_get(ctx, *name); }; });
}

}  // namespace mayfly::cli
