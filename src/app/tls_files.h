// The certificate and key files of `mayfly serve`: read as root at the start, and anew when they change, by the
// confined server. For that their folders are mounted read-only into its root, so that files renamed into them are
// seen, and links within them (as Kubernetes makes them); links that leave the folder are not followed then.
//
// Owner: the server. load() and changed() block: they run on the blocking pool, one at a time.
#pragma once
#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "crypto/tls.h"
#include "sandbox/narrow.h"

namespace mayfly {

class TlsFiles {
 public:
  // Before confinement. tls_unusable names the file and what is wrong with it.
  static Result<std::unique_ptr<TlsFiles>> open(const std::string& certificate, const std::string& key);

  const std::vector<ReadOnlyFolder>& folders() const { return folders_; }  // for confine_server()
  std::shared_ptr<const TlsContext> context() const { return context_; }
  // From now on the files are where folders() put them.
  void confined();
  // Whether a file is not the one that was last looked at by load(), good or not.
  bool changed() const;
  // The files as they are now; on success context() is new.
  Status load();

 private:
  struct File {
    std::string given;  // as the user named it
    std::string path;   // where it is now
    std::string confined_path;
    struct stat seen{};
  };
  static Status place(File& file, const char* mount, std::vector<ReadOnlyFolder>& folders);
  File certificate_, key_;
  std::vector<ReadOnlyFolder> folders_;
  std::shared_ptr<const TlsContext> context_;
};

}  // namespace mayfly
