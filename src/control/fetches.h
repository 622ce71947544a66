// Packages from elsewhere: reads a source into the package store and charges it to a tenant. Who asks for what is being
// fetched for the same tenant waits for that one. One reactor; fetches run on a blocking pool of their own.
#pragma once
#include <string>

#include "async/async.h"
#include "async/single_flight.h"
#include "control/artefacts.h"
#include "control/options.h"
#include "fetch/fetcher.h"
#include "observe/log.h"
#include "store/packages.h"

namespace mayfly {

class Fetches {
 public:
  static constexpr std::size_t kAtOnce = 4;  // threads; further ones wait
  Fetches(const ControlOptions& options, const Fetcher& fetcher, PackageStore& packages, Artefacts& artefacts, Log& log)
      : options_(options), fetcher_(fetcher), packages_(packages), artefacts_(artefacts), log_(log) {}
  // The digest of the package that the source is now. Errors: those of Fetcher::fetch() and Artefacts::accept().
  Task<Result<std::string>> package_of(std::string tenant, std::string source);

 private:
  Task<Result<std::string>> fetch(const std::string& tenant, Source source);
  void log_fetched(const Source& source, const Downloaded& got, std::uint64_t since_ns);

  const ControlOptions& options_;
  const Fetcher& fetcher_;
  PackageStore& packages_;
  Artefacts& artefacts_;
  Log& log_;
  BlockingPool pool_{kAtOnce};
  SingleFlight<Result<std::string>> under_way_;  // by tenant and source
};

}  // namespace mayfly
