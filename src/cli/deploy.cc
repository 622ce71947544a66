#include "cli/command.h"
#include "cli/deploy_steps.h"
#include "cli/spec.h"

namespace mayfly::cli {
namespace {

struct DeployOptions {
  std::string name;
  std::string model;
  DeployFlags flags;
  SourceFlags source;
};

Result<int> run_deploy(const Context& ctx, const DeployOptions& o) {
  auto spec = spec_from_flags(o.flags);
  if (!spec) return std::move(spec.error());
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = deploy_model(ctx, **client, o.name, o.model, *spec, o.source);
  if (!answer) return std::move(answer.error());
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
  } else {
    fmt::print("{}", render_deployed(*answer, *spec, (*client)->server(), (*client)->has_key()));
  }
  return 0;
}

}  // namespace

void add_deploy(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("deploy", "upload a model and make it the newest version of an endpoint");
  auto o = std::make_shared<DeployOptions>();
  DeployFlags& f = o->flags;
  cmd->add_option("NAME", o->name, "endpoint")->required()->check(non_empty());
  cmd->add_option("MODEL", o->model, "the model (ONNX): a file, or https://, s3://BUCKET/KEY, oci://REGISTRY/NAME:TAG")
      ->required();
  add_source_flags(*cmd, o->source);
  cmd->add_option("--memory", f.memory, "memory of an instance: 512Mi, 2Gi");
  cmd->add_option("--cpu", f.cpu, "processors of an instance: 1, 0.5, 500m");
  cmd->add_option("--threads", f.threads, "threads of one run; 0: as many as --cpu");
  cmd->add_option("--tier-up", f.tier_up, "auto or off: change busy instances to pre-packed weights where that pays");
  cmd->add_option("--wake-on", f.wake_on,
                  "request, or connection: an address that asked before starts an instance as soon as it connects");
  cmd->add_option("--min", f.min, "instances kept even if idle");
  cmd->add_option(
      "--provisioned", f.provisioned,
      "instances kept warm: 2, or COUNT@DAYS@FROM-TO in UTC such as 5@mon-fri@08:00-18:00, any number of times");
  cmd->add_option("--parked", f.parked, "instances kept ready with their process stopped");
  cmd->add_option("--cold-start-budget-ms", f.cold_start_budget_ms,
                  "what a request may wait for an instance; the platform holds the least that keeps it");
  cmd->add_option("--max", f.max, "most instances");
  cmd->add_option("--concurrency", f.concurrency, "requests handed to one instance at once");
  cmd->add_option("--idle", f.idle, "how long an idle instance is kept: 10s, 5m");
  cmd->add_option("--timeout", f.timeout, "longest time of a request: 30s");
  cmd->add_option("--queue", f.queue, "most waiting requests");
  cmd->add_option("--max-request", f.max_request, "largest request: 32Mi");
  cmd->add_option("--batch-max", f.batch_max, "rows of several requests run together; 1: never");
  cmd->add_option("--batch-delay", f.batch_delay, "how long an idle instance waits for more rows: 500us");
  cmd->add_option("--max-response", f.max_response, "largest answer: 32Mi");
  cmd->add_option("--labels", f.labels_file, "file of class labels: JSON object or array, or one a line");
  cmd->add_option("--top", f.top, "classes in an answer");
  cmd->add_option("--classes-output", f.output_name, "the output that holds the classes' scores");
  cmd->add_option("--sample", f.sample_file, "file with a request to try the version with before it is served");
  cmd->add_option("--image-input", f.image_input,
                  "take pictures: resize=224,crop=center,mean=127,scale=0.0078125,layout=nchw, or JSON");
  cmd->footer(
      examples({"mayfly deploy iris model.onnx", "mayfly deploy resnet resnet50.onnx --memory 1Gi --min 1 --idle 5m",
                "mayfly deploy cats net.onnx --image-input resize=224,mean=127,scale=0.0078125 \\",
                "    --labels labels.json --top 5", "mayfly deploy iris s3://models/iris.onnx --on-server"}));
  cmd->callback([&ctx, o] { ctx.run = [&ctx, o] { return run_deploy(ctx, *o); }; });
}

}  // namespace mayfly::cli
