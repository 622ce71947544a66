// The zygote: the runtime library loaded and primed, no tenant's data, one thread, an empty root, five capabilities.
// Each BlankRequest becomes a clone() of it that joins its cgroups, waits for one LaunchRequest, narrows itself
// (sandbox/narrow.h) and then serves an arena or compiles a model. It is a program of its own (zygote_main.cc), since
// a clone copies every mapping of it: the server's libraries would be three of four. The server carries it inside
// (program/program.h).
#pragma once
#include <string>

namespace mayfly {

struct ZygoteOptions {
  int socket = -1;  // to the launcher
  std::string runtime_library;
};
int zygote_main(const ZygoteOptions& options);

}  // namespace mayfly
