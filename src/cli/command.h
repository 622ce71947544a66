// What all commands share: the global flags, how a command registers itself and how it ends.
// add_X() puts command X into the CLI11 tree; parsing stores its body in Context::run, which run_cli calls once.
// The Context outlives the tree. A body returns the exit status or an Error, which run_cli prints.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "cli/client.h"
#include "cli/serve_options.h"

namespace mayfly::cli {

struct Context {
  std::string server;   // --server, empty if not given
  std::string key;      // --key
  std::string ca_file;  // --ca-file
  std::string output = "table";
  ServeFunction serve = nullptr;
  DoctorFunction doctor = nullptr;
  std::function<Result<int>()> run;
  bool json() const { return output == "json"; }
};

void add_serve(CLI::App& app, Context& ctx);
void add_deploy(CLI::App& app, Context& ctx);
void add_apply(CLI::App& app, Context& ctx);
void add_import(CLI::App& app, Context& ctx);
void add_get(CLI::App& app, Context& ctx);
void add_list(CLI::App& app, Context& ctx);
void add_delete(CLI::App& app, Context& ctx);
void add_invoke(CLI::App& app, Context& ctx);
void add_explain(CLI::App& app, Context& ctx);
void add_wake(CLI::App& app, Context& ctx);
void add_logs(CLI::App& app, Context& ctx);
void add_top(CLI::App& app, Context& ctx);
void add_keys(CLI::App& app, Context& ctx);
void add_doctor(CLI::App& app, Context& ctx);
void add_version(CLI::App& app, Context& ctx);
void add_completion(CLI::App& app, Context& ctx);

// The whole tree: global flags and every command.
void build_app(CLI::App& app, Context& ctx);

// A client for the server that flags, environment or config file name (in that order).
Result<std::unique_ptr<Client>> open_client(const Context& ctx);

// Lines for the end of a command's --help.
std::string examples(std::initializer_list<const char*> lines);
// Refuses "" as a name: it would ask for the list of all.
CLI::Validator non_empty();

}  // namespace mayfly::cli
