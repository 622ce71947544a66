// The part of the server that owns instances on this machine: one pool for each version that has or wants any.
// One reactor. A timer runs only while there is something to watch: an idle node costs nothing.
#pragma once
#include <memory>
#include <unordered_map>

#include "node/pool.h"

namespace mayfly {

class Node {
 public:
  Node(Executor ex, LauncherClient& launcher, NodeObserver& observer)
      : executor_(ex), launcher_(launcher), observer_(observer), timer_(ex) {}
  Task<Result<Lease>> acquire(VersionPtr version, Ask ask);
  Status admit(const VersionPtr& version, const Ask& ask, std::uint64_t now);  // see Pool
  void wake(const VersionPtr& version);                                        // the head of a request has named it
  void keep(const VersionPtr& version);                                        // hold its `min` instances from now on
  void retire(const Version& version);           // no new traffic: its instances end as soon as they are idle
  void end_idle(const Version& version);         // those that do nothing now end now; the version stays served
  Task<Ok> close(std::uint64_t grace_until_ns);  // ends all instances, at the latest then
  const Pool* find(const Version& version) const;
  const std::unordered_map<const Version*, std::unique_ptr<Pool>>& pools() const { return pools_; }

 private:
  Pool& pool(const VersionPtr& version);
  void arm();
  Task<void> run_timer();
  Executor executor_;
  LauncherClient& launcher_;
  NodeObserver& observer_;
  std::unordered_map<const Version*, std::unique_ptr<Pool>> pools_;
  Timer timer_;
  bool armed_ = false, closing_ = false, slow_ = false;
};

}  // namespace mayfly
