// Where the node has artefacts from that a start finds missing. Owner: the control; one reactor.
#pragma once
#include <cstdint>

#include "async/async.h"
#include "node/version.h"

namespace mayfly {

struct Supplied {
  std::uint64_t bytes = 0;     // of the artefact
  std::uint64_t build_ns = 0;  // of them in the compile job; 0: it was there meanwhile
  bool fetched = false;        // its package came from the remote store
};

class ArtefactSupply {
 public:
  virtual ~ArtefactSupply() = default;
  // Brings the version's artefact to its path, once for all who ask meanwhile. Has no deadline of its own beyond those
  // of fetching and compiling: who waits for it has one. Errors: package_unavailable, package_corrupt.
  virtual Task<Result<Supplied>> supply(VersionPtr version) = 0;
};

// Whether the file is there, whole by its length. A look that does not wait: a few microseconds.
bool artefact_there(const Version& version);

}  // namespace mayfly
