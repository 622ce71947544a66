#include "cli/command.h"
#include "cli/views.h"

namespace mayfly::cli {
namespace {

std::string wait_text(const Json& next) {
  const Json& ms = member(next, "wait_ms");
  const std::string finds = cell(next, "finds");
  if (finds == "warm") return "a warm instance";
  const std::string what = finds == "parked" ? "a parked instance" : "none, and one starts from zero";
  if (!ms.is_number()) return what + "; how long that takes was not measured yet";
  return fmt::format("{}: {:.2f} ms more than with a warm one", what, ms.get<double>());
}

void print_memory(const Json& memory) {
  const Json& node = member(memory, "node");
  if (number(memory, "instance_bytes") > 0) {
    fmt::print("memory     {} each instance, {} shared by all of them\n", human_bytes(number(memory, "instance_bytes")),
               human_bytes(number(memory, "artefact_bytes")));
  }
  fmt::print("node       {} of {} in use: instances {}, models {}, cached models {}\n",
             human_bytes(number(node, "used_bytes")), human_bytes(number(node, "budget_bytes")),
             human_bytes(number(node, "instances_bytes")), human_bytes(number(node, "artefacts_bytes")),
             human_bytes(number(node, "cached_bytes")));
}

std::string file_text(const Json& file) {
  std::string out = member(file, "here") == Json(true) ? "here" : "not here";
  if (file.contains("dropped")) out += ", dropped: " + cell(file, "dropped");
  if (file.contains("bucket")) {
    out += member(file, "in_bucket") == Json(true) ? "; in " : "; not asked yet whether it is in ";
    out += cell(file, "bucket");
  }
  return out;
}

void print_storage(const Json& storage) {
  if (!storage.is_object()) return;
  const Json& artefact = member(storage, "artefact");
  fmt::print("artefact   {}; {}, built in {} ms\npackage    {}\n", file_text(artefact),
             human_bytes(number(artefact, "bytes")), cell(artefact, "build_ms"), file_text(member(storage, "package")));
}

void print_explanation(const Json& e) {
  const Json& held = member(e, "held");
  fmt::print("name       {} version {}\nstate      {}\nwhy        {}\n", cell(e, "name"), cell(e, "version"),
             cell(e, "state"), cell(e, "why"));
  fmt::print("next       a request finds {}\n", wait_text(member(e, "next_request")));
  fmt::print("held       {} warm, {} parked: {}\n", cell(held, "warm"), cell(held, "parked"), cell(held, "reason"));
  if (const Json& budget = member(e, "cold_start_budget"); budget.is_object()) {
    fmt::print("budget     {} ms for a start: {}\n", cell(budget, "budget_ms"),
               member(budget, "kept") == Json(true) ? "kept" : "not kept, or not known yet");
  }
  print_memory(member(e, "memory"));
  print_storage(member(e, "storage"));
  if (e.contains("last_eviction")) fmt::print("evicted    {}\n", cell(e, "last_eviction"));
  std::vector<std::vector<std::string>> rows;
  for (const auto& event : member(e, "events")) {
    rows.push_back({cell(event, "time"), cell(event, "event"), cell(event, "version"), cell(event, "instance"),
                    event.contains("detail") ? cell(event, "detail") : ""});
  }
  if (!rows.empty()) fmt::print("\n{}", render_table({"TIME", "EVENT", "VERSION", "INSTANCE", "DETAIL"}, rows));
}

Result<int> run_explain(const Context& ctx, const std::string& name) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->call("GET", "/admin/v1/endpoints/" + url_escape(name) + "/explain");
  if (!answer) return std::move(answer.error());
  if (ctx.json())
    fmt::print("{}\n", print_json(*answer, 2));
  else
    print_explanation(*answer);
  return 0;
}

Result<int> run_wake(const Context& ctx, const std::string& name, std::uint32_t instances) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer =
      (*client)->call("POST", fmt::format("/admin/v1/endpoints/{}/wake?instances={}", url_escape(name), instances));
  if (!answer) return std::move(answer.error());
  if (ctx.json())
    fmt::print("{}\n", print_json(*answer, 2));
  else
    fmt::print("{} is {}, {} instances\n", cell(*answer, "name"), cell(*answer, "state"), cell(*answer, "instances"));
  return 0;
}

}  // namespace

void add_explain(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("explain", "in what state an endpoint is, why, and what a start would cost");
  auto name = std::make_shared<std::string>();
  cmd->add_option("NAME", *name, "endpoint")->required()->check(non_empty());
  cmd->footer(examples({"mayfly explain iris", "mayfly explain iris -o json"}));
  cmd->callback([&ctx, name] { ctx.run = [&ctx, name] { return run_explain(ctx, *name); }; });
}

void add_wake(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("wake", "start instances of an endpoint before requests come");
  auto name = std::make_shared<std::string>();
  auto instances = std::make_shared<std::uint32_t>(1);
  cmd->add_option("NAME", *name, "endpoint")->required()->check(non_empty());
  cmd->add_option("--instances", *instances, "how many are to be warm, at most the endpoint's max")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  cmd->footer(examples({"mayfly wake iris", "mayfly wake iris --instances 4"}));
  cmd->callback(
      [&ctx, name, instances] { ctx.run = [&ctx, name, instances] { return run_wake(ctx, *name, *instances); }; });
}

}  // namespace mayfly::cli
