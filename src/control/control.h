// Endpoints and their versions: the route table, deploys, deletes, and what a start of the server restores. One
// reactor; files, SQL and hashing run on the blocking pool. A deploy is: package → compile job → artefact (fsync,
// rename) → version in the store → route. Any failure before the store's commit leaves the endpoint as it was. Commits
// and routes of one endpoint change in its turn, so that the route table holds what the store holds.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "async/async.h"
#include "async/turns.h"
#include "compile/job.h"
#include "control/artefacts.h"
#include "control/disk_quota.h"
#include "control/fetches.h"
#include "control/options.h"
#include "control/remote_packages.h"
#include "control/settings.h"
#include "control/supplies.h"
#include "node/node.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "store/packages.h"
#include "store/store.h"

namespace mayfly {

// A version with what only callers' side needs. Thousands are held at zero: what only people read (the report, the
// sample, the settings as text) stays in the store.
struct ServedVersion {
  VersionPtr version;
  EndpointSettings settings;  // without the sample
  std::string package;
};
using ServedPtr = std::shared_ptr<const ServedVersion>;
struct Deployed {
  ServedPtr served;
  std::string report_json;
};

struct Endpoint {
  std::string tenant, name;
  std::uint64_t created_ms = 0;
  ServedPtr live;
  std::map<std::uint32_t, ServedPtr> versions;  // the live one and the one before it
  EndpointMetrics metrics;
};
using EndpointPtr = std::shared_ptr<Endpoint>;

class Control final : public NodeObserver {
 public:
  static constexpr std::uint32_t kKeptVersions = 2;
  static constexpr int kMaxDeploysAtOnce = 4;
  Control(Executor ex, ControlOptions options, Store& store, PackageStore& packages, BlockingPool& blocking,
          LauncherClient& launcher, const Fetcher& fetcher, Log& log)
      : executor_(ex),
        options_(std::move(options)),
        store_(store),
        packages_(packages),
        blocking_(blocking),
        log_(log),
        artefacts_(options_, store, packages, blocking, launcher),
        fetches_(options_, fetcher, packages, artefacts_, log),
        supplies_(ex, artefacts_),
        disk_(options_.disk_quota_bytes, artefacts_, log) {
    artefacts_.set_room(disk_);
  }
  void attach(Node& node) {
    node_ = &node;
    node.set_supply(supplies_);
    disk_.attach(node);
  }
  // Before restore(): the packages' home, of which the local folder is a cache. It must outlive this.
  void set_bucket(const Bucket& bucket);

  // Restores the route table. Artefacts that are missing (another CPU, another runtime version) are rebuilt when they
  // are first needed.
  Task<Status> restore();
  // What was measured of the versions that were used since then, for the next server. Before the node closes.
  Task<Status> keep_measures();
  EndpointPtr find(std::string_view tenant, std::string_view name) const;
  std::vector<EndpointPtr> list(std::string_view tenant) const;
  const std::vector<EndpointPtr>& all() const;  // by tenant and name; valid until the route table changes
  // The versions of an endpoint as stored, oldest first.
  Task<Result<std::vector<VersionRow>>> stored_versions(std::string tenant, std::string name);
  Task<Result<Deployed>> deploy(std::string tenant, std::string name, std::string package, std::string spec_json);
  // The same of a package that the server fetches first.
  Task<Result<Deployed>> deploy_source(std::string tenant, std::string name, std::string source, std::string spec_json);
  Task<Status> remove(std::string tenant, std::string name);
  // Room left for the tenant's next package, bytes.
  Task<Result<std::uint64_t>> quota_left(std::string tenant) { return artefacts_.quota_left(std::move(tenant)); }
  // Finishes an upload, which must outlive the task: its digest. It stays for an hour unless it is deployed.
  Task<Result<std::string>> accept_package(PackageStore::Upload& upload, std::string tenant) {
    return artefacts_.accept(upload, std::move(tenant));
  }
  Error over_quota(std::string_view tenant) const { return artefacts_.over_quota(tenant); }
  const ControlOptions& options() const { return options_; }
  const Artefacts& artefacts() const { return artefacts_; }
  const RemotePackages* remote() const { return remote_.get(); }  // null: no bucket
  const DiskUse& disk() const { return disk_.use(); }
  std::uint64_t changes() const { return changes_; }  // of the route table so far

  void on_instance_event(const Version& v, std::uint64_t instance, std::string_view event,
                         std::string_view detail) override;

 private:
  struct Prepared {
    CompileReport report;
    Measures measures;
  };
  // Compiles the package of `row`, tries the version out and fills in the report. Neither is done again where the
  // tenant has a version like it.
  Task<Result<Prepared>> prepare(VersionRow& row, const EndpointSettings& settings);
  Measures measures_of(const VersionRow& row) const;  // of a version that is served
  // Starts one instance of a version that is not served yet, with its own limits, and runs the sample, or zeros.
  // → what was measured of it.
  Task<Result<Measures>> try_out(VersionRow row, EndpointSettings settings, CompileReport report);
  Result<ServedPtr> serve(const VersionRow& row, const EndpointSettings& settings, const CompileReport& report);
  struct Draft {  // of a version
    std::string tenant, name, package;
    EndpointSettings settings;
  };
  Result<Draft> draft(std::string tenant, std::string name, std::string_view spec_json) const;
  Task<Result<Deployed>> deploy_draft(Draft draft);
  // `old`: the packages of the versions before it.
  Task<Result<Deployed>> deploy_checked(std::string tenant, std::string name, std::string package,
                                        EndpointSettings settings, std::vector<std::string>& old);
  Task<Result<Deployed>> commit(VersionRow row, EndpointSettings settings, Prepared prepared,
                                std::vector<std::string>& old);
  ServedPtr restore_version(const VersionRow& row);  // null if it can't be served
  void restore_endpoint(const EndpointRow& row, const std::vector<VersionRow>& versions);
  void put(const EndpointPtr& endpoint, ServedPtr served);
  Task<void> settle_disk(std::vector<std::string> packages);

  Executor executor_;
  ControlOptions options_;
  Store& store_;
  PackageStore& packages_;
  BlockingPool& blocking_;
  Log& log_;
  Artefacts artefacts_;
  Fetches fetches_;
  Supplies supplies_;
  DiskQuota disk_;
  std::unique_ptr<RemotePackages> remote_;
  Node* node_ = nullptr;
  std::unordered_map<std::string, EndpointPtr> endpoints_;  // key(tenant, name)
  mutable std::string lookup_;                              // reused, so that a look-up allocates nothing
  mutable std::vector<EndpointPtr> sorted_;                 // all of them, as of that many changes
  mutable std::uint64_t sorted_at_ = 0;
  Turns turns_;  // by key(tenant, name): commit and route, or remove
  int deploys_ = 0;
  std::uint64_t changes_ = 1;
};

}  // namespace mayfly
