// API keys: "mf_<id>_<secret>". Stored as SHA-256 of the secret (256 random bits: no stretching is needed), compared in
// constant time. The set in memory mirrors the store; the caller persists first, then calls add / revoke / set_limits
// here. A key is never taken out of it: pointers to a KeyState are good for the life of the ring. One reactor.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "crypto/hash.h"
#include "iam/key_limits.h"
#include "store/store.h"

namespace mayfly {

enum Scope : std::uint32_t { kInvoke = 1, kDeploy = 2, kAdmin = 4 };

struct Principal {
  std::string tenant = "default";
  std::string key_id;  // empty: no key was asked for
  std::uint32_t scopes = 0;
  KeyState* key = nullptr;  // its limits; null: no key was asked for
  std::uint64_t flow() const { return key != nullptr ? key->flow : 0; }
  std::uint32_t weight() const { return key != nullptr ? key->row.limits.weight : 1; }
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
  void set_limits(std::string_view id, const KeyLimits& limits, std::uint64_t now_ns);
  const KeyState* find(std::string_view id) const;  // null: there is no such key
  bool required() const { return required_; }
  std::size_t active() const;
  std::vector<const KeyState*> states() const;
  // `authorization` and `x_api_key`: header values, "" if absent. Errors: unauthenticated ("missing_key",
  // "invalid_key"). Without a key, and none required, the caller may do everything in tenant "default".
  Result<Principal> authenticate(std::string_view authorization, std::string_view x_api_key);
  static Status require(const Principal& p, Scope scope);  // kPermissionDenied "missing_scope"

 private:
  bool required_;
  std::uint64_t flows_ = 0;
  Sha256 hash_;                                     // kept: a new one costs an allocation for each request
  std::unordered_map<std::string, KeyState> keys_;  // nodes are stable
};

}  // namespace mayfly
