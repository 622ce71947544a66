// The wiring: what main() hands to the command line.
#pragma once
#include <string>

#include "base/result.h"
#include "cli/serve_options.h"

namespace mayfly {

int serve(const ServeOptions& options);
int doctor(bool json);

// What sandboxes will lack on this host, for the start-up log; "complete" if nothing. As root, before anything else
// runs.
std::string isolation_summary();

// Where the model runtime's library is: `runtime_dir`, ../lib/mayfly or ../lib beside the binary, the build's own
// folder.
Result<std::string> find_runtime_library(const std::string& runtime_dir);

}  // namespace mayfly
