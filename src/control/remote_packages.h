// The bucket of packages as the server uses it: sends and fetches on threads of their own, each package once for all
// who ask at the same time. What is known to be in the bucket is remembered and not asked for again: nothing is ever
// deleted there by a server. One reactor.
#pragma once
#include <cstdint>
#include <string>
#include <unordered_set>

#include "async/async.h"
#include "async/single_flight.h"
#include "fetch/bucket.h"
#include "observe/log.h"
#include "store/packages.h"

namespace mayfly {

class RemotePackages {
 public:
  static constexpr std::size_t kAtOnce = 4;  // threads; further ones wait
  RemotePackages(const Bucket& bucket, PackageStore& packages, std::uint64_t max_bytes, Log& log)
      : bucket_(bucket), packages_(packages), max_bytes_(max_bytes), log_(log) {}

  Task<Status> reach();
  // The package, which is here, is in the bucket afterwards. Errors: package_store_unavailable, package_corrupt,
  // package_not_found (it is not here).
  Task<Status> secure(std::string package);
  // Brings it here. Errors: those of Bucket::get(), and of Upload::finish().
  Task<Status> fetch(std::string package);
  // Its length there. Errors: package_not_found, package_store_unavailable.
  Task<Result<std::uint64_t>> length(std::string package);
  // It is there, as far as was seen since the start.
  bool known(const std::string& package) const { return known_.contains(package); }
  void note(const std::string& package) { known_.insert(package); }
  void forget(const std::string& package) { known_.erase(package); }
  std::string shown(std::string_view package = {}) const { return bucket_.shown(package); }
  // How long so many bytes would take to come, as others have; a guess until one has.
  std::uint64_t fetch_ns(std::uint64_t bytes) const;

 private:
  Task<Status> send(const std::string& package);
  Task<Status> bring(const std::string& package);
  void log_moved(std::string_view event, const std::string& package, std::uint64_t bytes, std::uint64_t since_ns,
                 const Downloaded* got);

  const Bucket& bucket_;
  PackageStore& packages_;
  std::uint64_t max_bytes_;
  Log& log_;
  BlockingPool pool_{kAtOnce};
  SingleFlight<Status> sending_, coming_;  // by package
  std::unordered_set<std::string> known_;
  std::uint64_t bytes_per_s_ = 100'000'000;
};

}  // namespace mayfly
