#include "iam/keys.h"

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

void KeyRing::add(const KeyRow& row) { keys_[row.id] = row; }

void KeyRing::revoke(std::string_view id) {
  if (auto it = keys_.find(std::string(id)); it != keys_.end()) it->second.revoked = true;
}

std::size_t KeyRing::active() const {
  std::size_t n = 0;
  for (const auto& [id, row] : keys_) n += row.revoked ? 0 : 1;
  return n;
}

std::vector<KeyRow> KeyRing::rows() const {
  std::vector<KeyRow> out;
  for (const auto& [id, row] : keys_) out.push_back(row);
  return out;
}

Result<Principal> KeyRing::authenticate(std::string_view authorization, std::string_view x_api_key) const {
  constexpr std::string_view kBearer = "Bearer ";
  std::string_view key = x_api_key;
  if (authorization.substr(0, kBearer.size()) == kBearer) key = authorization.substr(kBearer.size());
  if (key.empty() && !required_) return Principal{"default", "", kInvoke | kDeploy | kAdmin};
  if (key.empty()) {
    return make_error(Code::kUnauthenticated, "missing_key",
                      "this server needs a key: send \"Authorization: Bearer mf_…\"");
  }
  const auto bad = make_error(Code::kUnauthenticated, "invalid_key", "the key is not known or was revoked");
  if (key.size() != 3 + kIdChars + 1 + kSecretChars || key.substr(0, 3) != "mf_") return bad;
  auto it = keys_.find(std::string(key.substr(3, kIdChars)));
  const std::string hash = sha256_hex(key.substr(3 + kIdChars + 1));
  if (it == keys_.end() || !constant_time_equal(hash, it->second.hash) || it->second.revoked) return bad;
  auto scopes = parse_scopes(it->second.scopes);
  if (!scopes.ok()) return bad;
  return Principal{it->second.tenant, it->second.id, *scopes};
}

Status KeyRing::require(const Principal& p, Scope scope) {
  if ((p.scopes & scope) != 0 || (p.scopes & kAdmin) != 0) return Ok{};
  return make_error(Code::kPermissionDenied, "missing_scope", "this key lacks the scope \"{}\"", scope_name(scope));
}

}  // namespace mayfly
