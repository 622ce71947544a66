// Durable metadata (SQLite, WAL, synchronous=FULL): tenants, keys, endpoints, versions. All calls block: run them on
// the BlockingPool. Thread-safe (one connection, one mutex). A call that returned OK survives kill -9 and power loss.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

struct VersionRow {
  std::string tenant, endpoint;
  std::uint32_t number = 0;      // 1, 2, 3 … within the endpoint; never reused
  std::string package;           // digest, 64 hex digits
  std::string settings_json;     // EndpointSettings
  std::string report_json;       // what the deploy job measured
  std::uint64_t created_ms = 0;  // Unix time
  std::string measures_json{};   // of its instances; empty: nothing is known
};
struct EndpointRow {
  std::string tenant, name;
  std::uint32_t live_version = 0;  // the version that receives traffic
  std::uint64_t created_ms = 0;
};
struct KeyLimits {                // of one key; 0: no such limit
  double rate = 0;                // requests a second
  std::uint32_t burst = 0;        // requests at once within the rate; 0: as many as one second brings
  std::uint32_t concurrency = 0;  // requests under way
  std::uint32_t weight = 1;       // share of what is contended, relative to other keys
  bool operator==(const KeyLimits&) const = default;
};
struct KeyRow {
  std::string id;  // public part, 12 characters
  std::string tenant, name;
  std::string scopes;  // "invoke,deploy,admin"
  std::string hash;    // SHA-256 of the secret, hex
  std::uint64_t created_ms = 0;
  bool revoked = false;
  KeyLimits limits;
};

struct ArtefactRow {  // of a file that was built here
  std::string file;   // its name
  std::uint64_t bytes = 0, build_ms = 0;
};

class Store {
 public:
  static constexpr std::uint64_t kNoLimit = ~0ULL;
  virtual ~Store() = default;
  // Creates the endpoint if needed, gives the version the next number, makes it live, all in one transaction. Returns
  // the number.
  virtual Result<std::uint32_t> add_version(VersionRow row) = 0;
  virtual Result<std::vector<EndpointRow>> endpoints() = 0;
  virtual Result<std::vector<VersionRow>> versions() = 0;  // of all endpoints that exist
  virtual Result<std::vector<VersionRow>> versions_of(std::string_view tenant, std::string_view name) = 0;
  // A version of the tenant's with this package: one with these settings if there is one, else any; nothing if none.
  virtual Result<std::optional<VersionRow>> version_like(std::string_view tenant, std::string_view package,
                                                         std::string_view settings_json) = 0;
  // Of a version that is gone meanwhile nothing is kept. All in one transaction.
  struct VersionMeasures {
    std::string tenant, endpoint;
    std::uint32_t number = 0;
    std::string json;
  };
  virtual Status note_measures(const std::vector<VersionMeasures>& measures) = 0;
  virtual Status delete_endpoint(std::string_view tenant, std::string_view name) = 0;  // kNotFound "endpoint_not_found"
  virtual Status prune_versions(std::string_view tenant, std::string_view name,
                                std::uint32_t keep_from) = 0;  // drops number < keep_from
  virtual Status add_key(const KeyRow& row) = 0;
  virtual Result<std::vector<KeyRow>> keys() = 0;
  virtual Status revoke_key(std::string_view id) = 0;                               // kNotFound "key_not_found"
  virtual Status set_key_limits(std::string_view id, const KeyLimits& limits) = 0;  // kNotFound "key_not_found"
  virtual Result<std::uint64_t> package_bytes_of(std::string_view tenant) = 0;      // for the quota
  // Charges the package to the tenant. "quota_exceeded", and nothing is changed, if the tenant's packages would then be
  // over `limit` bytes; looked at and charged in one step.
  virtual Status note_package(std::string_view digest, std::string_view tenant, std::uint64_t bytes,
                              std::uint64_t limit = kNoLimit) = 0;
  virtual Status forget_package(
      std::string_view digest) = 0;                         // its file is gone: no tenant pays for it; OK if not noted
  virtual Result<std::vector<std::string>> packages() = 0;  // digests that a tenant pays for
  virtual Result<bool> package_in_use(std::string_view digest) = 0;          // a version refers to it
  virtual Result<std::uint64_t> package_bytes(std::string_view digest) = 0;  // its length; 0: no tenant pays for it
  // What is known of an artefact outlives its file: it may be dropped and built again.
  virtual Status note_artefact(const ArtefactRow& row) = 0;
  virtual Status forget_artefact(std::string_view file) = 0;  // OK if not noted
  virtual Result<std::vector<ArtefactRow>> artefacts() = 0;
};
// Opens or creates `dir`/mayfly.db. Takes an exclusive lock on `dir`/lock: kFailedPrecondition "data_directory_in_use"
// if another server holds it. A database written by a newer schema is refused.
Result<std::unique_ptr<Store>> open_sqlite_store(const std::string& dir);

}  // namespace mayfly
