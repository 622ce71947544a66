// A line of the log about the server itself, not about an endpoint.
#pragma once
#include <string_view>

#include "observe/log.h"

namespace mayfly {

void log_server_event(Log& log, std::string_view event, std::string_view detail);

}  // namespace mayfly
