#include "iam/keys.h"

#include <array>

#include "crypto/hash.h"

namespace mayfly {
namespace {
constexpr std::size_t kIdChars = 12, kSecretChars = 43;  // 43 base-62 characters: 256 bits
}

std::string_view scope_name(Scope s) {
  switch (s) {
    case kInvoke:
      return "invoke";
    case kDeploy:
      return "deploy";
    case kAdmin:
      return "admin";
  }
  return "";
}

Result<std::uint32_t> parse_scopes(std::string_view text) {
  std::uint32_t scopes = 0;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view one = text.substr(0, comma);
    text = comma == std::string_view::npos ? "" : text.substr(comma + 1);
    if (one == "invoke")
      scopes |= kInvoke;
    else if (one == "deploy")
      scopes |= kDeploy;
    else if (one == "admin")
      scopes |= kAdmin;
    else
      return invalid("unknown_scope", "unknown scope \"{}\"; the scopes are invoke, deploy and admin", one);
  }
  if (scopes == 0) return invalid("unknown_scope", "a key needs at least one scope: invoke, deploy or admin");
  return scopes;
}

Result<NewKey> make_key(std::string_view tenant, std::string_view name, const std::vector<std::string>& scopes,
                        std::uint64_t now_ms) {
  if (name.empty() || name.size() > 100) return invalid("invalid_name", "a key needs a name of 1 to 100 characters");
  const std::string joined = fmt::format("{}", fmt::join(scopes, ","));
  MAYFLY_TRY(parse_scopes(joined));
  NewKey key;
  key.row.id = random_token(kIdChars);
  const std::string secret = random_token(kSecretChars);
  key.row.tenant = tenant;
  key.row.name = name;
  key.row.scopes = joined;
  key.row.hash = sha256_hex(secret);
  key.row.created_ms = now_ms;
  key.secret_text = fmt::format("mf_{}_{}", key.row.id, secret);
  return key;
}

void KeyRing::add(const KeyRow& row) {
  auto [at, is_new] = keys_.try_emplace(row.id);
  KeyState& key = at->second;
  if (is_new) key.flow = ++flows_;
  key.row = row;
  auto scopes = parse_scopes(row.scopes);
  key.scopes = scopes.ok() ? *scopes : 0;
  key.limit(row.limits, 0);
}

void KeyRing::revoke(std::string_view id) {
  if (auto it = keys_.find(std::string(id)); it != keys_.end()) it->second.row.revoked = true;
}

void KeyRing::set_limits(std::string_view id, const KeyLimits& limits, std::uint64_t now_ns) {
  if (auto it = keys_.find(std::string(id)); it != keys_.end()) it->second.limit(limits, now_ns);
}

const KeyState* KeyRing::find(std::string_view id) const {
  const auto it = keys_.find(std::string(id));
  return it != keys_.end() ? &it->second : nullptr;
}

std::size_t KeyRing::active() const {
  std::size_t n = 0;
  for (const auto& [id, key] : keys_) n += key.row.revoked ? 0 : 1;
  return n;
}

std::vector<const KeyState*> KeyRing::states() const {
  std::vector<const KeyState*> out;
  for (const auto& [id, key] : keys_) out.push_back(&key);
  return out;
}

Result<Principal> KeyRing::authenticate(std::string_view authorization, std::string_view x_api_key) {
  constexpr std::string_view kBearer = "Bearer ";
  std::string_view text = x_api_key;
  if (authorization.substr(0, kBearer.size()) == kBearer) text = authorization.substr(kBearer.size());
  if (text.empty() && !required_) return Principal{"default", "", kInvoke | kDeploy | kAdmin};
  if (text.empty()) {
    return make_error(Code::kUnauthenticated, "missing_key",
                      "this server needs a key: send \"Authorization: Bearer mf_…\"");
  }
  auto bad = [] { return make_error(Code::kUnauthenticated, "invalid_key", "the key is not known or was revoked"); };
  if (text.size() != 3 + kIdChars + 1 + kSecretChars || text.substr(0, 3) != "mf_") return bad();
  auto it = keys_.find(std::string(text.substr(3, kIdChars)));  // short enough for no allocation
  std::array<char, 64> hash{};
  hash_.restart();
  hash_.update(text.substr(3 + kIdChars + 1));
  hash_.hex_digest(hash);
  if (it == keys_.end()) return bad();
  KeyState& key = it->second;
  if (!constant_time_equal({hash.data(), hash.size()}, key.row.hash) || key.row.revoked || key.scopes == 0)
    return bad();
  return Principal{key.row.tenant, key.row.id, key.scopes, &key};
}

Status KeyRing::require(const Principal& p, Scope scope) {
  if ((p.scopes & scope) != 0 || (p.scopes & kAdmin) != 0) return Ok{};
  return make_error(Code::kPermissionDenied, "missing_scope", "this key lacks the scope \"{}\"", scope_name(scope));
}

}  // namespace mayfly
