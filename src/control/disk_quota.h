// What packages and artefacts take of the local disk, and who goes when that is more than `--disk-quota`
// (policy/residency.h): artefacts, at the time of their compile job, and packages that the bucket has, at the time of
// fetching them. Never what an instance maps or waits for, what a deploy holds, or what a task is making; never more
// than is needed; nothing at all if that would not be enough. The disk is counted anew each time: what is there is
// there. One reactor; counting runs on the blocking pool. Its turn is taken before that of a package, never in one.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "async/async.h"
#include "async/turns.h"
#include "control/artefacts.h"
#include "control/remote_packages.h"
#include "node/node.h"
#include "policy/residency.h"

namespace mayfly {

struct DiskUse {
  std::uint64_t quota = 0;  // 0: none
  std::uint64_t packages = 0, artefacts = 0;
  std::uint64_t temporary = 0;  // uploads, fetches and compile jobs under way
  std::uint64_t dropped = 0;    // files so far
  std::uint64_t used() const { return packages + artefacts + temporary; }
};

class DiskQuota final : public DiskRoom {
 public:
  DiskQuota(std::uint64_t quota, Artefacts& artefacts, Log& log) : artefacts_(artefacts), log_(log) {
    use_.quota = quota;
  }
  void attach(Node& node) { node_ = &node; }
  void set_remote(RemotePackages& remote) { remote_ = &remote; }

  bool limited() const override { return use_.quota != 0; }
  Task<Status> make_room(std::uint64_t need, std::uint64_t expected) override;
  const DiskUse& use() const { return use_; }  // as of the latest count

 private:
  struct Choice;
  Choice candidates(const DiskFiles& files) const;
  Task<void> count(DiskFiles& files);
  Task<void> ask_remote(const Choice& c);
  Task<bool> drop(const Choice& c, std::size_t i);
  Error exceeded(std::uint64_t need) const;

  Artefacts& artefacts_;
  Log& log_;
  Node* node_ = nullptr;
  RemotePackages* remote_ = nullptr;  // null: none
  DiskUse use_;
  Turns turns_;  // one at a time
};

// What the compile job of an artefact will take that took `measured_ns`; 0: not known.
constexpr std::uint64_t expected_build_ns(std::uint64_t measured_ns) {
  return measured_ns != 0 ? measured_ns : 1'000'000'000;
}
// The same decision as a pure function, for the tests: what a file is to the quota.
policy::Resident artefact_resident(std::uint64_t bytes, std::uint64_t build_ns, double use, bool package_here,
                                   std::uint64_t fetch_ns);
policy::Resident package_resident(std::uint64_t bytes, std::uint64_t fetch_ns, double use, bool artefact_here);

}  // namespace mayfly
