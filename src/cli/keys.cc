#include <sstream>

#include "cli/command.h"
#include "cli/views.h"

namespace mayfly::cli {
namespace {

struct KeyOptions {
  std::string name;
  std::string scopes;  // as given: "invoke,deploy"
  std::string id;
};

Json scopes_of(const std::string& text) {
  Json out = Json::array();
  std::istringstream in(text);
  for (std::string scope; std::getline(in, scope, ',');) {
    if (!scope.empty()) out.push_back(scope);
  }
  return out;
}

std::string joined(const Json& scopes) {
  std::string out;
  for (const auto& s : scopes)
    out += (out.empty() ? "" : ",") + (s.is_string() ? printable(s.get<std::string>()) : "-");
  return out.empty() ? "-" : out;
}

Result<int> run_create(const Context& ctx, const KeyOptions& o) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->call("POST", "/admin/v1/keys", Json{{"name", o.name}, {"scopes", scopes_of(o.scopes)}});
  if (!answer) return std::move(answer.error());
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
    return 0;
  }
  fmt::print("{}\n", cell(*answer, "key"));  // alone on stdout: export MAYFLY_KEY=$(mayfly keys create …)
  fmt::print(stderr, "key {} ({}), scopes {}; it is shown only this once\n", cell(*answer, "id"), cell(*answer, "name"),
             joined(member(*answer, "scopes")));
  return 0;
}

Result<int> run_keys_list(const Context& ctx) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->call("GET", "/admin/v1/keys");
  if (!answer) return std::move(answer.error());
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& k : member(*answer, "keys")) {
    const Json& revoked = member(k, "revoked");
    const bool gone = revoked.is_boolean() ? revoked.get<bool>() : number(k, "revoked") != 0;
    rows.push_back({cell(k, "id"), cell(k, "name"), joined(member(k, "scopes")), age(k, "created_ms", unix_ms()),
                    gone ? "revoked" : "valid"});
  }
  fmt::print("{}", render_table({"ID", "NAME", "SCOPES", "AGE", "STATE"}, rows));
  return 0;
}

Result<int> run_revoke(const Context& ctx, const std::string& id) {
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->call("DELETE", "/admin/v1/keys/" + url_escape(id));
  if (!answer) return std::move(answer.error());
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
  } else {
    fmt::print("revoked {}\n", printable(id));
  }
  return 0;
}

}  // namespace

void add_keys(CLI::App& app, Context& ctx) {
  auto* cmd = app.add_subcommand("keys", "API keys: create, list, revoke");
  cmd->require_subcommand(1);
  cmd->footer(examples({"export MAYFLY_KEY=$(mayfly keys create ci --scopes invoke,deploy)", "mayfly keys list",
                        "mayfly keys revoke ID"}));
  auto o = std::make_shared<KeyOptions>();
  auto* create = cmd->add_subcommand("create", "make a key and show it once");
  create->add_option("NAME", o->name, "what the key is for")->required()->check(non_empty());
  create->add_option("--scopes", o->scopes, "what it may do, separated by commas: invoke, deploy, admin")
      ->required()
      ->check(non_empty());
  create->footer(examples({"mayfly keys create shop --scopes invoke"}));
  create->callback([&ctx, o] { ctx.run = [&ctx, o] { return run_create(ctx, *o); }; });
  auto* list = cmd->add_subcommand("list", "all keys");
  list->callback([&ctx] { ctx.run = [&ctx] { return run_keys_list(ctx); }; });
  auto* revoke = cmd->add_subcommand("revoke", "end a key");
  revoke->add_option("ID", o->id, "as `mayfly keys list` shows it")->required()->check(non_empty());
  revoke->callback([&ctx, o] { ctx.run = [&ctx, o] { return run_revoke(ctx, o->id); }; });
}

}  // namespace mayfly::cli
