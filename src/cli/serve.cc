#include <unistd.h>

#include "cli/command.h"

namespace mayfly::cli {

void add_serve(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("serve", "run the server on this machine");
  auto o = std::make_shared<ServeOptions>();
  if (::geteuid() == 0 && ::access("/var/lib/mayfly", F_OK) == 0) o->data_dir = "/var/lib/mayfly";
  auto weak = std::make_shared<bool>(false);
  const CLI::AsSizeValue bytes(true);
  const std::map<std::string, std::uint64_t> units = {{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}};
  cmd->add_option("--data,--data-dir", o->data_dir, "folder of models, keys and endpoints")->capture_default_str();
  cmd->add_option("--listen", o->listen, "ADDRESS:PORT; port 0 takes a free one")->capture_default_str();
  cmd->add_option("--user", o->user, "started as root: the unprivileged user to become");
  cmd->add_option("--runtime,--runtime-dir", o->runtime_dir, "folder of the model runtime's library");
  cmd->add_option("--drain", o->drain_ms, "longest wait for running requests at the end [30s]")
      ->transform(CLI::AsNumberWithUnit(
          units,
          CLI::AsNumberWithUnit::Options(CLI::AsNumberWithUnit::CASE_SENSITIVE | CLI::AsNumberWithUnit::UNIT_REQUIRED),
          "TIME"));
  cmd->add_flag("--require-keys", o->require_keys, "ask for a key from callers on this machine too");
  cmd->add_flag("--shared-memory", o->shared_memory,
                "let callers on this machine hand over tensors in POSIX shared memory that the server's user may open");
  cmd->add_flag("--allow-weak-isolation", *weak, "start although `mayfly doctor` says that sandboxes are incomplete");
  cmd->add_option("--max-package", o->max_package_bytes, "largest model [4Gi]")->transform(bytes);
  cmd->add_option("--tenant-quota", o->tenant_quota_bytes, "models of one tenant together [64Gi]")->transform(bytes);
  cmd->add_option(
      "--allow-source", o->allow_sources,
      "HOST[:PORT] that models may be fetched from though it is private or plain http, or s3://BUCKET[/PREFIX]");
  cmd->add_option("--source-endpoint", o->source_endpoint, "URL of the S3 service [AWS_ENDPOINT_URL_S3, else AWS]");
  cmd->add_option("--s3-credentials", o->s3_credentials,
                  "file of AWS_ACCESS_KEY_ID=… lines, in place of the environment");
  cmd->add_option("--source-stall", o->source_stall_ms, "a fetch below 1 KiB/s for as long is tried again [10s]")
      ->transform(CLI::AsNumberWithUnit(
          units,
          CLI::AsNumberWithUnit::Options(CLI::AsNumberWithUnit::CASE_SENSITIVE | CLI::AsNumberWithUnit::UNIT_REQUIRED),
          "TIME"))
      ->check(CLI::Range(1'000U, 600'000U));
  cmd->add_option("--memory-budget", o->memory_budget_bytes,
                  "memory of all instances and models together [80 % of the machine's]")
      ->transform(bytes);
  cmd->add_option("--disk-quota", o->disk_quota_bytes,
                  "models and what is built of them in the data folder together; what can be had again goes [none]")
      ->transform(bytes);
  cmd->add_option("--packages", o->packages,
                  "s3://BUCKET[/PREFIX] that keeps all models; the data folder is its cache");
  cmd->add_option("--log-file", o->log_file, "write the log here instead of to stderr");
  auto* cert = cmd->add_option("--tls-cert", o->tls_cert, "serve HTTPS with this certificate (PEM, then its chain)");
  auto* key = cmd->add_option("--tls-key", o->tls_key, "its private key (PEM); both are read anew when they change");
  cert->needs(key);
  key->needs(cert);
  cmd->add_flag("--tls-allow-plain", o->tls_allow_plain, "with TLS: serve plain HTTP to other hosts too")->needs(cert);
  cmd->add_option("--max-streams", o->max_streams, "requests at once on one HTTP/2 connection")
      ->check(CLI::Range(1U, 10'000U))
      ->capture_default_str();
  cmd->footer(examples(
      {"mayfly serve", "mayfly serve --listen 0.0.0.0:8080 --data /var/lib/mayfly --user mayfly",
       "mayfly serve --listen 0.0.0.0:8443 --tls-cert /etc/mayfly/tls/tls.crt --tls-key /etc/mayfly/tls/tls.key",
       "mayfly serve --listen 127.0.0.1:0 --drain 5s --max-package 512Mi"}));
  cmd->callback([&ctx, o, weak] {
    o->require_isolation = !*weak;
    ctx.run = [&ctx, o]() -> Result<int> { return ctx.serve(*o); };
  });
}

}  // namespace mayfly::cli
