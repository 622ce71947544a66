// Where the server is and which key to show it: flags, then environment, then ~/.config/mayfly/config.yaml, then
// http://127.0.0.1:8080 without a key. Each of the two is looked up by itself, except that the file's key belongs to
// the file's server: it is not sent to another address. Pure but for reading the file.
// Errors: kInvalidArgument "invalid_config" (names file and cure), "invalid_server_address".
#pragma once
#include <string>

#include "base/result.h"

namespace mayfly::cli {

struct Connection {
  std::string server;        // "http://host:port", no slash at its end
  std::string key;           // empty: none
  std::string ca_file = {};  // PEM of the authorities that https:// servers are checked against; empty: the system's
};

std::string default_config_path(const std::string& xdg_config_home, const std::string& home);
// A file that does not exist is an empty one.
Result<Connection> resolve_connection(const Connection& flags, const Connection& env, const std::string& config_path);
// "127.0.0.1:8080" → "http://127.0.0.1:8080"; https:// is kept.
Result<std::string> normal_server(std::string text);

}  // namespace mayfly::cli
