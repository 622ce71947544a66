#include <optional>
#include <sstream>

#include "cli/command.h"
#include "cli/views.h"

namespace mayfly::cli {
namespace {

struct KeyOptions {
  std::string name;
  std::string scopes;  // as given: "invoke,deploy"
  std::string id;
  std::optional<double> rate;
  std::optional<std::uint32_t> burst, concurrency, weight;
};

// The limits that were given, into the body of a request.
bool add_limits(const KeyOptions& o, Json& body) {
  const std::size_t before = body.size();
  if (o.rate) body["rate"] = *o.rate;
  if (o.burst) body["burst"] = *o.burst;
  if (o.concurrency) body["concurrency"] = *o.concurrency;
  if (o.weight) body["weight"] = *o.weight;
  return body.size() > before;
}

void add_limit_options(CLI::App& cmd, KeyOptions& o) {
  cmd.add_option("--rate", o.rate, "predictions a second: 100, 0.5; 0 for no limit");
  cmd.add_option("--burst", o.burst, "predictions at once within the rate; 0 for as many as a second brings");
  cmd.add_option("--concurrency", o.concurrency, "predictions under way; 0 for no limit");
  cmd.add_option("--weight", o.weight, "share where keys compete, 1 to 100, relative to theirs");
}

// "100/s, burst 20, 8 at once, weight 2"; "-" for none.
std::string limits_text(const Json& k) {
  std::string out;
  auto add = [&](const std::string& part) { out += (out.empty() ? "" : ", ") + part; };
  const Json& rate = member(k, "rate");
  if (rate.is_number()) add(fmt::format("{:g}/s, burst {}", rate.get<double>(), number(k, "burst")));
  if (number(k, "concurrency") != 0) add(fmt::format("{} at once", number(k, "concurrency")));
  if (number(k, "weight") > 1) add(fmt::format("weight {}", number(k, "weight")));
  return out.empty() ? "-" : out;
}

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
  Json body{{"name", o.name}, {"scopes", scopes_of(o.scopes)}};
  add_limits(o, body);
  auto answer = (*client)->call("POST", "/admin/v1/keys", body);
  if (!answer) return std::move(answer.error());
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
    return 0;
  }
  fmt::print("{}\n", cell(*answer, "key"));  // alone on stdout: export MAYFLY_KEY=$(mayfly keys create …)
  fmt::print(stderr, "key {} ({}), scopes {}, limits {}; it is shown only this once\n", cell(*answer, "id"),
             cell(*answer, "name"), joined(member(*answer, "scopes")), limits_text(*answer));
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
    rows.push_back({cell(k, "id"), cell(k, "name"), joined(member(k, "scopes")), limits_text(k),
                    age(k, "created_ms", unix_ms()), gone ? "revoked" : "valid"});
  }
  fmt::print("{}", render_table({"ID", "NAME", "SCOPES", "LIMITS", "AGE", "STATE"}, rows));
  return 0;
}

Result<int> run_limit(const Context& ctx, const KeyOptions& o) {
  Json body = Json::object();
  if (!add_limits(o, body)) {
    return invalid("invalid_limit", "nothing to change: give --rate, --burst, --concurrency or --weight");
  }
  auto client = open_client(ctx);
  if (!client) return std::move(client.error());
  auto answer = (*client)->call("PATCH", "/admin/v1/keys/" + url_escape(o.id), body);
  if (!answer) return std::move(answer.error());
  if (ctx.json()) {
    fmt::print("{}\n", print_json(*answer, 2));
  } else {
    fmt::print("key {} ({}): {}\n", cell(*answer, "id"), cell(*answer, "name"), limits_text(*answer));
  }
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
  auto* cmd = app.add_subcommand("keys", "API keys: create, list, limit, revoke");
  cmd->require_subcommand(1);
  cmd->footer(examples({"export MAYFLY_KEY=$(mayfly keys create ci --scopes invoke,deploy)", "mayfly keys list",
                        "mayfly keys limit ID --rate 100 --concurrency 8", "mayfly keys revoke ID"}));
  auto o = std::make_shared<KeyOptions>();
  auto* create = cmd->add_subcommand("create", "make a key and show it once");
  create->add_option("NAME", o->name, "what the key is for")->required()->check(non_empty());
  create->add_option("--scopes", o->scopes, "what it may do, separated by commas: invoke, deploy, admin")
      ->required()
      ->check(non_empty());
  add_limit_options(*create, *o);
  create->footer(examples({"mayfly keys create shop --scopes invoke",
                           "mayfly keys create batch --scopes invoke --rate 100 --burst 20 --concurrency 8"}));
  create->callback([&ctx, o] { ctx.run = [&ctx, o] { return run_create(ctx, *o); }; });
  auto* list = cmd->add_subcommand("list", "all keys");
  list->callback([&ctx] { ctx.run = [&ctx] { return run_keys_list(ctx); }; });
  auto* limit = cmd->add_subcommand("limit", "change the limits of a key; what is not given stays");
  limit->add_option("ID", o->id, "as `mayfly keys list` shows it")->required()->check(non_empty());
  add_limit_options(*limit, *o);
  limit->footer(examples(
      {"mayfly keys limit ID --rate 100 --burst 20 --concurrency 8 --weight 2", "mayfly keys limit ID --rate 0"}));
  limit->callback([&ctx, o] { ctx.run = [&ctx, o] { return run_limit(ctx, *o); }; });
  auto* revoke = cmd->add_subcommand("revoke", "end a key");
  revoke->add_option("ID", o->id, "as `mayfly keys list` shows it")->required()->check(non_empty());
  revoke->callback([&ctx, o] { ctx.run = [&ctx, o] { return run_revoke(ctx, o->id); }; });
}

}  // namespace mayfly::cli
