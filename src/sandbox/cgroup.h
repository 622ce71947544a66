// Resource limits by cgroup, v2 or v1, whichever the host has. Used by the launcher only (root).
// One parent, "mayfly-<pid of the launcher>", with a child for each sandbox. v1 uses the memory, cpu and pids
// hierarchies.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

struct CgroupLimits {
  std::uint64_t memory_bytes = 0;
  std::uint32_t cpu_milli = 0;
  std::uint32_t pids = 0;
};

struct CgroupHost {
  int version = 0;                   // 1, 2, or 0: none usable
  std::vector<std::string> roots;    // v1: one folder for each controller; v2: one
  std::vector<std::string> missing;  // controllers that the host lacks
};
CgroupHost detect_cgroups();

// One sandbox's group. Destroying it removes the folders, after its processes are gone.
class Cgroup {
 public:
  static Result<Cgroup> create(const CgroupHost& host, const std::string& parent, const std::string& name);
  Cgroup(Cgroup&&) noexcept = default;
  Cgroup& operator=(Cgroup&&) noexcept = default;
  ~Cgroup() { remove(); }
  Status set(const CgroupLimits& limits);
  // Its share of the processor while others want it too, in units of cgroup v2's cpu.weight: 1 … 10000, usual is 100.
  // Best effort: without it nothing but the order in which sandboxes run changes.
  void set_weight(std::uint32_t weight) const;
  std::vector<int> procs_fds() const;
  std::uint64_t oom_kills() const;
  std::uint64_t peak_bytes() const;
  // The file with its present use, as seen inside the server's root (/cgroup is /sys/fs/cgroup); empty without a memory
  // controller.
  std::string memory_file() const;
  void remove();  // best effort; the sweep at the next start removes what stays

 private:
  Cgroup() = default;
  int version_ = 0;
  std::vector<std::string> dirs_;
  std::vector<Fd> procs_;
};

// Makes the parent groups. Removes parents of launchers that are gone, ending processes that are still in them.
Status prepare_cgroup_parent(const CgroupHost& host, const std::string& parent);
void remove_cgroup_parent(const CgroupHost& host, const std::string& parent);
void sweep_orphaned_cgroups(const CgroupHost& host);

}  // namespace mayfly
