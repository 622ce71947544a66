#include "cli/command.h"
#include "cli/deploy_steps.h"
#include "cli/spec.h"

namespace mayfly::cli {
namespace {

// The file is read as a whole before anything is sent: a mistake in its last document deploys nothing.
Result<int> run_apply(const Context& ctx, const std::string& file, const SourceFlags& source) {
  auto text = read_file(file);
  if (!text) return std::move(text.error());
  auto endpoints = parse_endpoint_file(*text, file);
  if (!endpoints) return std::move(endpoints.error());
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  Json answers = Json::array();
  for (const auto& e : *endpoints) {
    auto answer = deploy_model(ctx, **client, e.name, e.model, e.spec, source);
    if (!answer) {
      return Error{answer.error().code, answer.error().reason, fmt::format("{}: {}", e.name, answer.error().message)};
    }
    if (!ctx.json()) fmt::print("{}", render_deployed(*answer, e.spec, (*client)->server(), (*client)->has_key()));
    answers.push_back(std::move(*answer));
  }
  if (ctx.json()) fmt::print("{}\n", print_json(Json{{"endpoints", answers}}, 2));
  return 0;
}

}  // namespace

void add_apply(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("apply", "deploy what endpoint files describe");
  auto file = std::make_shared<std::string>();
  auto source = std::make_shared<SourceFlags>();
  cmd->add_option("-f,--file", *file, "YAML of name, model and spec; several documents; - is standard input")
      ->required();
  add_source_flags(*cmd, *source);
  cmd->footer(examples({"mayfly apply -f endpoint.yaml"}) +
              "\nendpoint.yaml:\n  name: iris\n  model: model.onnx        # paths are relative to the file\n"
              "  spec:\n    memory: 256Mi\n    idle: 30s\n");
  cmd->callback([&ctx, file, source] { ctx.run = [&ctx, file, source] { return run_apply(ctx, *file, *source); }; });
}

}  // namespace mayfly::cli
