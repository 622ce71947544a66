// The zygote: the runtime library loaded and primed, no tenant's data, one thread, an empty root, five capabilities.
// Each BlankRequest becomes a clone() of it that joins its cgroups, waits for one LaunchRequest, narrows itself
// (sandbox/narrow.h) and then serves an arena or compiles a model.
#pragma once
#include <string>

namespace mayfly {

struct ZygoteOptions {
  int socket = -1;  // to the launcher
  std::string runtime_library;
  bool require_all = true;
};
int zygote_main(const ZygoteOptions& options);

}  // namespace mayfly
