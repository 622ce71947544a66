#include "cli/config.h"

#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <exception>

#include "cli/spec.h"

namespace mayfly::cli {
namespace {

Result<Connection> read_config(const std::string& path) {
  Connection c;
  if (path.empty() || ::access(path.c_str(), F_OK) != 0) return c;
  auto text = read_file(path);
  if (!text) return std::move(text.error());
  try {
    const YAML::Node root = YAML::Load(*text);
    if (root.IsNull()) return c;
    if (!root.IsMap()) return invalid("invalid_config", "{}: expected `server: …` and `key: …`, one a line", path);
    for (const auto& entry : root) {
      const auto name = entry.first.as<std::string>();
      if (name == "server") {
        c.server = entry.second.as<std::string>();
      } else if (name == "key") {
        c.key = entry.second.as<std::string>();
      } else if (name == "ca_file") {
        c.ca_file = entry.second.as<std::string>();
      } else {
        return invalid("invalid_config", "{}: unknown setting \"{}\"{}", path, name,
                       suggestion(name, {"server", "key", "ca_file"}));
      }
    }
  } catch (const std::exception& e) {
    return invalid("invalid_config", "{}: {}", path, e.what());
  }
  return c;
}

}  // namespace

std::string default_config_path(const std::string& xdg_config_home, const std::string& home) {
  if (!xdg_config_home.empty()) return xdg_config_home + "/mayfly/config.yaml";
  return home.empty() ? std::string() : home + "/.config/mayfly/config.yaml";
}

Result<std::string> normal_server(std::string text) {
  if (text.find("://") == std::string::npos) text = "http://" + text;
  while (text.ends_with('/')) text.pop_back();
  const bool known = text.starts_with("http://") || text.starts_with("https://");
  if (!known || text.find("://") + 3 >= text.size() || text.find_first_of(" \t\r\n?#") != std::string::npos) {
    return invalid("invalid_server_address", "\"{}\" is no server address; write it as http://HOST:PORT", text);
  }
  return text;
}

Result<Connection> resolve_connection(const Connection& flags, const Connection& env, const std::string& config_path) {
  auto file = read_config(config_path);
  if (!file) return std::move(file.error());
  Connection c;
  c.server = !flags.server.empty() ? flags.server : !env.server.empty() ? env.server : file->server;
  if (c.server.empty()) c.server = "http://127.0.0.1:8080";
  auto server = normal_server(c.server);
  if (!server) return std::move(server.error());
  c.server = std::move(*server);
  c.key = !flags.key.empty() ? flags.key : env.key;
  c.ca_file = !flags.ca_file.empty() ? flags.ca_file : !env.ca_file.empty() ? env.ca_file : file->ca_file;
  if (c.key.empty() && !file->key.empty()) {
    bool same = file->server.empty();
    if (!same) {
      auto own = normal_server(file->server);
      if (!own) return std::move(own.error());
      same = *own == c.server;
    }
    if (same) c.key = file->key;
  }
  if (c.key.find_first_of("\r\n") != std::string::npos) {
    return invalid("invalid_config",
                   "the key holds a line break; give it as one word, as `mayfly keys create` showed it");
  }
  return c;
}

}  // namespace mayfly::cli
