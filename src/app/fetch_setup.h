// What fetching needs from outside before the server is confined: credentials and settings of the command line, the
// authorities' certificates, the resolver's files.
#pragma once
#include <vector>

#include "base/result.h"
#include "cli/serve_options.h"
#include "fetch/fetcher.h"
#include "sandbox/narrow.h"

namespace mayfly {

// The credentials in the environment are overwritten: call it after the launcher was forked, once.
Result<FetchOptions> fetch_options(const ServeOptions& options);
// Copies of resolv.conf and hosts, for confine_server().
std::vector<SmallFile> resolver_files();

}  // namespace mayfly
