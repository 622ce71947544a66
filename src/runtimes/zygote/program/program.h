// The zygote's program, carried inside the server's, so that one file is all that has to be installed.
#pragma once
#include <string>

#include "base/result.h"

namespace mayfly {

// Becomes the zygote, which finds the launcher's socket at kZygoteSocket: the program is executed out of a sealed
// memory file, so that no file system is needed that is writable or allows to execute. Returns only where that fails.
Error exec_zygote(const std::string& runtime_library);

}  // namespace mayfly
