#include "control/server_event.h"

#include <fmt/format.h>

#include "tensor/json.h"

namespace mayfly {

void log_server_event(Log& log, std::string_view event, std::string_view detail) {
  std::string line = fmt::format(R"({{"time":"{}","event":"{}","detail":)", Log::timestamp(), event);
  append_json_string(line, detail);
  log.event("", line + '}');
}

}  // namespace mayfly
