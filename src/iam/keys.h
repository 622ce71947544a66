// API keys: "mf_<id>_<secret>". Stored as SHA-256 of the secret (256 random bits: no stretching is needed), compared in
// constant time. The set in memory mirrors the store; the caller persists first, then calls add / revoke here. One
// reactor.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "store/store.h"

namespace mayfly {

enum Scope : std::uint32_t { kInvoke = 1, kDeploy = 2, kAdmin = 4 };

struct Principal {
  std::string tenant = "default";
  std::string key_id;  // empty: no key was asked for
  std::uint32_t scopes = 0;
};

struct NewKey {
  KeyRow row;
  std::string secret_text;  // the whole key; shown once
};
Result<NewKey> make_key(std::string_view tenant, std::string_view name, const std::vector<std::string>& scopes,
                        std::uint64_t now_ms);
Result<std::uint32_t> parse_scopes(std::string_view comma_separated);
std::string_view scope_name(Scope s);

class KeyRing {
 public:
  explicit KeyRing(bool required) : required_(required) {}
  void add(const KeyRow& row);
  void revoke(std::string_view id);
  bool required() const { return required_; }
  std::size_t active() const;
  std::vector<KeyRow> rows() const;
  // `authorization` and `x_api_key`: header values, "" if absent. Errors: unauthenticated ("missing_key",
  // "invalid_key"). Without a key, and none required, the caller may do everything in tenant "default".
  Result<Principal> authenticate(std::string_view authorization, std::string_view x_api_key) const;
  static Status require(const Principal& p, Scope scope);  // kPermissionDenied "missing_scope"

 private:
  bool required_;
  std::unordered_map<std::string, KeyRow> keys_;
};

}  // namespace mayfly
