// Packages and their artefacts on disk: what is kept, for whom, and until when. A package stays as long as a version
// refers to it, a deploy holds it, or its upload is younger than an hour; then file, quota rows and artefact go
// together. Whoever changes a package's files or its users does so in the package's turn, so that nothing is collected
// between a look at it and its use. One reactor; files, SQL and hashing run on the blocking pool.
#pragma once
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "async/async.h"
#include "async/turns.h"
#include "compile/job.h"
#include "control/options.h"
#include "control/uploads.h"
#include "store/packages.h"
#include "store/store.h"

namespace mayfly {

class Artefacts {
 public:
  // While it lives, its package is not collected.
  class Hold {
   public:
    using Entry = std::multiset<std::string>::iterator;
    Hold(Artefacts* owner, Entry entry) : owner_(owner), entry_(entry) {}
    Hold(Hold&& o) noexcept : owner_(std::exchange(o.owner_, nullptr)), entry_(o.entry_) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() { release(); }
    void release() {
      if (owner_ != nullptr) std::exchange(owner_, nullptr)->held_.erase(entry_);
    }

   private:
    Artefacts* owner_;
    Entry entry_;
  };
  struct Swept {
    std::size_t packages = 0, artefacts = 0;
  };

  Artefacts(ControlOptions options, Store& store, PackageStore& packages, BlockingPool& blocking,
            LauncherClient& launcher)
      : options_(std::move(options)), store_(store), packages_(packages), blocking_(blocking), launcher_(launcher) {}

  // Where the artefact of a package lies, for this processor and this runtime.
  std::string path(std::string_view package) const;
  // Compiles the package and publishes its artefact: fsync, rename, fsync of the folder.
  Task<Result<CompileReport>> build(std::string package);
  // What an earlier build reported, if its artefact is still there, whole by its length.
  std::optional<CompileReport> built(std::string_view package, std::string_view report_json) const;

  // Finishes an upload and charges it to the tenant. Errors: quota_exceeded, and those of Upload::finish(). The upload
  // must outlive the task.
  Task<Result<std::string>> accept(PackageStore::Upload& upload, std::string tenant);
  // Room left for the tenant's next package, bytes.
  Task<Result<std::uint64_t>> quota_left(std::string tenant);
  Error over_quota(std::string_view tenant) const;  // quota_exceeded

  // For a deploy under way. Waits while the package is being collected.
  Task<Hold> hold(std::string package);
  // A deploy failed for a reason of the server's: the package stays for another one, as if it was uploaded now.
  void keep_for_retry(const std::string& package) { uploads_.add(package, now_ns()); }
  // Removes those of `packages`, and of the uploads that have expired, that nobody uses.
  Task<void> collect(std::vector<std::string> packages);
  // At start, before anything else runs: removes what an interrupted deploy or collection left. `used`: the packages
  // of all versions.
  Task<Swept> sweep(std::unordered_set<std::string> used);

 private:
  void drop_unless_referred(const std::string& package);
  Swept sweep_files(const std::unordered_set<std::string>& used);

  ControlOptions options_;
  Store& store_;
  PackageStore& packages_;
  BlockingPool& blocking_;
  LauncherClient& launcher_;
  Turns turns_;  // by package
  std::multiset<std::string> held_;
  Uploads uploads_;
};

}  // namespace mayfly
