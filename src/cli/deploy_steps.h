// What `deploy` and `apply` share: upload a model, create a version of an endpoint from it, tell what came of it.
// Steps are printed to stdout as they end (not with -o json). Errors are the client's.
#pragma once
#include <string>
#include <vector>

#include "cli/command.h"

namespace mayfly::cli {

struct SourceFlags {
  bool on_server = false;                  // the server fetches what is no local path
  std::vector<std::string> allow_sources;  // hosts for plain http, when it is fetched here
};
void add_source_flags(CLI::App& cmd, SourceFlags& flags);

// `model`: a path, or another source (docs/sources.md). Answer of POST …/versions plus "package".
Result<Json> deploy_model(const Context& ctx, Client& client, const std::string& name, const std::string& model,
                          const Json& spec, const SourceFlags& flags = {});
// Name, version, URL, signature and a command to try it; pure.
std::string render_deployed(const Json& answer, const Json& spec, const std::string& server, bool has_key);
std::string render_signature(const Json& report);

}  // namespace mayfly::cli
