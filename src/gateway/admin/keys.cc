// Keys in the gateway: /admin/v1/keys, and the limits of a key on predictions. Bodies name limits as `mayfly keys`
// does:
// {"rate": 100, "burst": 20, "concurrency": 8, "weight": 2}; what is absent stays as it is, null or 0 means none.
#include <algorithm>
#include <chrono>

#include "gateway/gateway.h"
#include "tensor/json_parse.h"

namespace mayfly {
namespace {

using Json = nlohmann::json;

std::string text(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

struct WholeLimit {
  std::string_view name;
  std::uint32_t KeyLimits::* value;
};
constexpr WholeLimit kWholeLimits[] = {
    {"burst", &KeyLimits::burst}, {"concurrency", &KeyLimits::concurrency}, {"weight", &KeyLimits::weight}};

// The limits that `body` names, put into `limits`. `others` may be there as well.
Status read_limits(const Json& body, std::initializer_list<std::string_view> others, KeyLimits& limits) {
  for (const auto& [name, value] : body.items()) {
    if (name == "rate") {
      if (!value.is_null() && !value.is_number())
        return invalid("invalid_limit", "rate is {}; it is a number of requests a second, or null", text(value));
      limits.rate = value.is_null() ? 0 : value.get<double>();
      continue;
    }
    const auto* at = std::find_if(std::begin(kWholeLimits), std::end(kWholeLimits),
                                  [&wanted = name](const WholeLimit& w) { return w.name == wanted; });
    if (at == std::end(kWholeLimits)) {
      if (std::find(others.begin(), others.end(), name) != others.end()) continue;
      return invalid("invalid_limit", "a key has no \"{}\"; its limits are rate, burst, concurrency and weight", name);
    }
    if (value.is_null()) {
      limits.*at->value = KeyLimits{}.*at->value;
      continue;
    }
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > 0xFFFFFFFF)
      return invalid("invalid_limit", "{} is {}; it is a whole number, or null", name, text(value));
    limits.*at->value = value.get<std::uint32_t>();
  }
  // A burst belongs to a rate: it goes with it.
  if (limits.rate == 0 && !body.contains("burst")) limits.burst = 0;
  return check_limits(limits);
}

void add_limits(Json& row, const KeyLimits& limits) {
  auto or_null = [](auto n) { return n == 0 ? Json() : Json(n); };
  row["rate"] = or_null(limits.rate);
  row["burst"] = or_null(burst_of(limits));
  row["concurrency"] = or_null(limits.concurrency);
  row["weight"] = limits.weight;
}

Json key_row(const KeyState& key) {
  Json scopes = Json::array();
  for (Scope s : {kInvoke, kDeploy, kAdmin}) {
    if ((key.scopes & s) != 0) scopes.push_back(scope_name(s));
  }
  Json row = {{"id", key.row.id},
              {"name", key.row.name},
              {"scopes", std::move(scopes)},
              {"created_ms", key.row.created_ms},
              {"revoked", key.row.revoked},
              {"under_way", key.under_way}};
  add_limits(row, key.row.limits);
  return row;
}

struct KeyBody {
  std::string name;
  std::vector<std::string> scopes;
  KeyLimits limits;
};

Result<KeyBody> read_key(std::string_view body) {
  auto parsed = parse_json_bounded(body);
  if (!parsed.ok()) return std::move(parsed.error());
  const Json& j = *parsed;
  KeyBody key;
  bool good =
      j.is_object() && j.contains("name") && j["name"].is_string() && j.contains("scopes") && j["scopes"].is_array();
  if (good) {
    for (const Json& s : j["scopes"]) {
      good = good && s.is_string();
      if (s.is_string()) key.scopes.push_back(s.get<std::string>());
    }
  }
  if (!good) return invalid("malformed_json", "expected {{\"name\": \"…\", \"scopes\": [\"invoke\"]}}");
  key.name = j["name"].get<std::string>();
  MAYFLY_TRY(read_limits(j, {"name", "scopes"}, key.limits));
  return key;
}

}  // namespace

// The limits of the caller's key hold for predictions; what they refuse counts as a request of the endpoint.
Status Gateway::begin_use(RequestContext& c, std::uint64_t received_ns) {
  auto use = KeyUse::begin(c.principal.key, received_ns);
  if (use.ok()) {
    c.key_use = std::move(*use);
    return Ok{};
  }
  EndpointMetrics& m = c.endpoint->metrics;
  note_refusal(c, use.error(), received_ns);
  ++(use.error().reason == "rate_limited" ? m.rate_limited : m.concurrency_limited);
  return std::move(use.error());
}

void Gateway::list_keys(RequestContext& c, Response& rs) {
  Json rows = Json::array();
  for (const KeyState* key : keys_.states()) {
    if (key->row.tenant == c.principal.tenant) rows.push_back(key_row(*key));
  }
  rs.body = text({{"keys", rows}});
}

Task<Ok> Gateway::make_key(const Request& rq, RequestContext& c, Response& rs) {
  auto asked = read_key(rq.body);
  if (!asked.ok()) co_return render_error(asked.error(), rq.head, rs), Ok{};
  auto key = mayfly::make_key(c.principal.tenant, asked->name, asked->scopes, unix_ms());
  if (!key.ok()) co_return render_error(key.error(), rq.head, rs), Ok{};
  key->row.limits = asked->limits;
  auto add = [this, &key] { return store_.add_key(key->row); };
  if (auto st = co_await blocking_.run(add); !st.ok()) co_return render_error(st.error(), rq.head, rs), Ok{};
  keys_.add(key->row);
  Json row = {{"id", key->row.id}, {"key", key->secret_text}, {"name", key->row.name}, {"scopes", asked->scopes}};
  add_limits(row, key->row.limits);
  rs.body = text(row);
  co_return Ok{};
}

Task<Ok> Gateway::limit_key(const Request& rq, RequestContext& c, Response& rs) {
  const KeyState* key = keys_.find(c.name);
  if (key == nullptr || key->row.tenant != c.principal.tenant) {
    render_error(make_error(Code::kNotFound, "key_not_found", "there is no key with the id {}", c.name), rq.head, rs);
    co_return Ok{};
  }
  auto parsed = parse_json_bounded(rq.body);
  if (parsed.ok() && !parsed->is_object())
    parsed = invalid("malformed_json", "expected {{\"rate\": 100, \"burst\": 20, \"concurrency\": 8, \"weight\": 2}}");
  if (!parsed.ok()) co_return render_error(parsed.error(), rq.head, rs), Ok{};
  auto turn = co_await key_turns_.take(c.name);
  KeyLimits limits = key->row.limits;
  if (auto st = read_limits(*parsed, {}, limits); !st.ok()) co_return render_error(st.error(), rq.head, rs), Ok{};
  auto change = [this, &c, &limits] { return store_.set_key_limits(c.name, limits); };
  if (auto st = co_await blocking_.run(change); !st.ok()) co_return render_error(st.error(), rq.head, rs), Ok{};
  keys_.set_limits(c.name, limits, now_ns());
  rs.body = text(key_row(*key));
  co_return Ok{};
}

Task<Ok> Gateway::keys(const Request& rq, RequestContext& c, Response& rs) {
  switch (c.spec->route) {
    case Route::kKeyList:
      list_keys(c, rs);
      co_return Ok{};
    case Route::kKeyCreate:
      co_return co_await make_key(rq, c, rs);
    case Route::kKeyLimit:
      co_return co_await limit_key(rq, c, rs);
    default:
      break;
  }
  auto revoke = [this, &c] { return store_.revoke_key(c.name); };
  if (auto st = co_await blocking_.run(revoke); !st.ok()) co_return render_error(st.error(), rq.head, rs), Ok{};
  keys_.revoke(c.name);
  rs.body = text({{"revoked", c.name}});
  co_return Ok{};
}

}  // namespace mayfly
