// The command line: every command of the binary `mayfly`. Runs on the main thread, blocks until the command is done.
// Commands other than serve, doctor, version and completion talk to a server through its HTTP API only.
// Returns the exit status: 0 ok, 1 failed, 2 bad usage or input, 3 not found, 4 not permitted, 5 unavailable or out of
// time. Answers go to stdout, everything said about them (progress, timings, errors) to stderr.
#pragma once
#include "cli/serve_options.h"

namespace mayfly {

int run_cli(int argc, char** argv, ServeFunction serve, DoctorFunction doctor);

}  // namespace mayfly
