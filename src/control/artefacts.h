// Packages and their artefacts on disk: what is kept, for whom, and until when. A package stays as long as a version
// refers to it, a deploy holds it, or its upload is younger than an hour; then file, quota rows and artefact go
// together. Whoever changes a package's files or its users does so in the package's turn, so that nothing is collected
// between a look at it and its use. An artefact may go before that and be built again (supplies.h). One reactor; files,
// SQL and hashing run on the blocking pool.
#pragma once
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "async/async.h"
#include "async/turns.h"
#include "compile/job.h"
#include "control/options.h"
#include "control/uploads.h"
#include "node/supply.h"
#include "node/version.h"
#include "store/packages.h"
#include "store/store.h"

namespace mayfly {

class RemotePackages;

// What is on the disk, as counted.
struct DiskFiles {
  std::unordered_map<std::string, std::uint64_t> packages;   // digest → bytes
  std::unordered_map<std::string, std::uint64_t> artefacts;  // path → bytes
  std::uint64_t temporary = 0;
};

class DiskRoom {  // the quota
 public:
  virtual ~DiskRoom() = default;
  virtual bool limited() const = 0;  // else everything fits, and make_room() only counts
  // Makes `need` bytes more fit, if they can with `expected` more to come. Errors: disk_quota_exceeded; then nothing
  // has gone.
  virtual Task<Status> make_room(std::uint64_t need, std::uint64_t expected) = 0;
};

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

  // Before anything runs. The bucket: packages are acknowledged when it has them, and come from there where they are
  // not here.
  void set_remote(RemotePackages& remote) { remote_ = &remote; }
  void set_room(DiskRoom& room) { room_ = &room; }

  // Where the artefact of a package lies, for this processor and this runtime.
  std::string path(std::string_view package) const;
  // Compiles the package and publishes its artefact: fsync, rename, fsync of the folder. Its length and the time that
  // it took are noted before it has its name: a file of another length is not whole. Errors: package_not_found,
  // package_corrupt, disk_full, those of compile_model().
  Task<Result<CompileReport>> build(std::string package);
  // The same for an artefact that is missing, with its package if that is missing too.
  Task<Result<Supplied>> restore(std::string package);
  // What an earlier build reported, if its artefact is still there, whole by its length.
  std::optional<CompileReport> built(const std::string& package, std::string_view report_json);
  // What is known of the package's artefact; one value for all who ask.
  std::shared_ptr<ArtefactFile> file_of(const std::string& package);
  const std::unordered_map<std::string, std::shared_ptr<ArtefactFile>>& files() const { return files_; }
  bool held(const std::string& package) const { return held_.contains(package); }
  Task<DiskFiles> count();
  // For the quota, of what can be had again. False: somebody holds it.
  Task<bool> drop_artefact(std::string package);
  Task<bool> drop_package(std::string package);
  void note_dropped(const std::string& package, bool artefact, std::string why);
  // At start: takes up what was noted of artefacts.
  Status load();
  std::uint64_t builds() const { return builds_; }  // compile jobs so far
  bool package_here(std::string_view package) const { return packages_.open(package).ok(); }

  // Finishes an upload and charges it to the tenant; with a bucket, when that has it. Errors: quota_exceeded,
  // disk_quota_exceeded, package_store_unavailable, and those of Upload::finish(). The upload must outlive the task.
  Task<Result<std::string>> accept(PackageStore::Upload& upload, std::string tenant);
  // Room left for the tenant's next package, bytes.
  Task<Result<std::uint64_t>> quota_left(std::string tenant);
  Error over_quota(std::string_view tenant) const;  // quota_exceeded

  // Before a deploy builds the package, which it holds: with a bucket, that has it, and the tenant is charged for it.
  // Errors: package_not_found, invalid_digest, package_store_unavailable, quota_exceeded.
  Task<Status> ready(std::string package, std::string tenant);
  // For a deploy under way. Waits while the package is being collected.
  Task<Hold> hold(std::string package);
  // The same for who works on a package that versions refer to.
  Task<Hold> pin(std::string package);
  // A deploy failed for a reason of the server's: the package stays for another one, as if it was uploaded now.
  void keep_for_retry(const std::string& package) { uploads_.add(package, now_ns()); }
  // Removes those of `packages`, and of the uploads that have expired, that nobody uses.
  Task<void> collect(std::vector<std::string> packages);
  // At start, before anything else runs: removes what an interrupted deploy or collection left. `used`: the packages
  // of all versions.
  Task<Swept> sweep(std::unordered_set<std::string> used);

 private:
  bool drop_unless_referred(const std::string& package);
  struct Model {
    Fd file;
    bool fetched = false;
  };
  // The package, whole, from here or from the bucket.
  Task<Result<Model>> model(std::string package);
  Task<Status> fetch(std::string package);
  Task<Result<CompileReport>> build_from(std::string package, Model model);
  Task<Status> make_room(std::uint64_t need, std::uint64_t expected);
  Task<void> recount();
  DiskFiles count_files();
  Status note(const std::string& package, std::uint64_t bytes, std::uint64_t build_ns);
  Swept sweep_files(const std::unordered_set<std::string>& used);

  ControlOptions options_;
  Store& store_;
  PackageStore& packages_;
  BlockingPool& blocking_;
  LauncherClient& launcher_;
  RemotePackages* remote_ = nullptr;                                      // null: packages are here or nowhere
  DiskRoom* room_ = nullptr;                                              // null: no quota
  Turns turns_;                                                           // by package
  std::unordered_map<std::string, std::shared_ptr<ArtefactFile>> files_;  // by package
  std::unordered_map<std::string, ArtefactRow> noted_;                    // by name, as of the start; taken by file_of
  std::multiset<std::string> held_;
  Uploads uploads_;
  std::uint64_t builds_ = 0;
};

}  // namespace mayfly
