// `mayfly import DIR`: deploys the models of a Triton model repository, one endpoint each.
#include "cli/command.h"
#include "cli/deploy_steps.h"
#include "cli/repository.h"

namespace mayfly::cli {
namespace {

struct ImportOptions {
  std::string dir;
  bool dry_run = false;
};

struct Row {
  std::string name, version, status, detail;
};

Row deploy_one(const Context& ctx, Client& client, const ImportPlan& plan, bool& failed) {
  auto answer = deploy_model(ctx, client, plan.name, plan.model, plan.spec);
  if (!answer) {
    failed = true;
    return {plan.name, plan.version, "failed", answer.error().message};
  }
  const std::string number = cell(*answer, "version");
  const auto differences = signature_differences(plan, member(*answer, "report"));
  if (differences.empty()) return {plan.name, plan.version, "deployed", "as version " + number};
  failed = true;
  return {plan.name, plan.version, "differs",
          fmt::format("deployed as version {}, but {}", number, fmt::join(differences, "; "))};
}

Row row_of(const Context& ctx, Client* client, const ImportPlan& plan, bool& failed) {
  switch (plan.kind) {
    case ImportPlan::Kind::kSkip:
      return {plan.name, plan.version, "skipped", plan.why};
    case ImportPlan::Kind::kFail:
      failed = true;
      return {plan.name, plan.version, "failed", plan.why};
    case ImportPlan::Kind::kDeploy:
      break;
  }
  if (client == nullptr) return {plan.name, plan.version, "would deploy", print_json(plan.spec)};
  return deploy_one(ctx, *client, plan, failed);
}

void print_rows(const Context& ctx, const std::vector<ImportPlan>& plans, const std::vector<Row>& rows) {
  if (ctx.json()) {
    Json out = Json::array();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      out.push_back({{"name", rows[i].name},
                     {"version", rows[i].version},
                     {"status", rows[i].status},
                     {"detail", rows[i].detail},
                     {"spec", plans[i].spec},
                     {"warnings", plans[i].warnings}});
    }
    fmt::print("{}\n", print_json(Json{{"models", out}}, 2));
    return;
  }
  for (const ImportPlan& plan : plans) {
    for (const std::string& w : plan.warnings) fmt::print("warning  {}: {}\n", printable(plan.name), printable(w));
  }
  std::vector<std::vector<std::string>> cells;
  for (const Row& r : rows)
    cells.push_back({printable(r.name), r.version.empty() ? "-" : r.version, r.status, printable(r.detail)});
  if (!cells.empty()) fmt::print("{}", render_table({"MODEL", "FROM", "STATUS", "DETAIL"}, cells));
}

Result<int> run_import(const Context& ctx, const ImportOptions& o) {
  auto plans = read_repository(o.dir);
  if (!plans) return std::move(plans.error());
  if (plans->empty()) return invalid("empty_repository", "{} has no sub-folder, so no model", o.dir);
  std::unique_ptr<Client> client;
  if (!o.dry_run) {
    auto opened = open_client(ctx);
    if (!opened) return std::move(opened.error());
    client = std::move(*opened);
  }
  bool failed = false;
  std::vector<Row> rows;
  for (const ImportPlan& plan : *plans) rows.push_back(row_of(ctx, client.get(), plan, failed));
  print_rows(ctx, *plans, rows);
  return failed ? 1 : 0;
}

}  // namespace

void add_import(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("import", "deploy the models of a Triton model repository");
  auto o = std::make_shared<ImportOptions>();
  cmd->add_option("DIR", o->dir, "folder of MODEL/config.pbtxt and MODEL/NUMBER/model.onnx")->required();
  cmd->add_flag("--dry-run", o->dry_run, "say what would be deployed, and ask no server");
  cmd->footer(examples({"mayfly import models/ --dry-run", "mayfly import models/"}) +
              "\nOf each model the highest version is deployed that its version_policy lets through. Status 1 if any "
              "failed or\n"
              "differs from its config.pbtxt; models of other backends are skipped.\n");
  cmd->callback([&ctx, o] { ctx.run = [&ctx, o] { return run_import(ctx, *o); }; });
}

}  // namespace mayfly::cli
