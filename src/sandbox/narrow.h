// The narrowing of one child, each step visible, in the order in which it must happen. Runs in the child between
// clone() and the first foreign byte; the parent (zygote) already lives in an empty read-only root and made the child
// in new pid, mount, ipc, uts and cgroup namespaces. In two halves: join() before the child waits for its work,
// narrow() when it has it.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "sandbox/seccomp.h"

namespace mayfly {

inline constexpr int kFirstSandboxFd = 3;  // what narrow() keeps is moved to 3, 4, 5 …; 0, 1 and 2 are closed
inline constexpr char kScratchDir[] = "/scratch";

struct NarrowOptions {
  std::span<const int> keep_fds;     // moved to kFirstSandboxFd + i; at most 8
  std::uint32_t uid = 0;             // its own unprivileged id, also the group
  std::uint64_t max_file_bytes = 0;  // the largest file it may write
  std::uint64_t scratch_bytes = 0;   // > 0: a private tmpfs of this size at kScratchDir
  const SeccompProgram* seccomp = nullptr;
  bool require_all = true;  // false: a step that the host can't do is skipped
};

// Both: nullptr on success; else the name of the step that failed (errno is set).
// cgroup_procs: open cgroup.procs files to join; netns_fd: an empty network namespace to enter.
const char* join(std::span<const int> cgroup_procs, int netns_fd);
const char* narrow(const NarrowOptions& options);

// The zygote's own narrowing, once: a new mount namespace whose root is an empty read-only tmpfs with kScratchDir as
// mount point, and only the capabilities that narrow() uses.
Status enter_empty_root();
Status keep_only_sandbox_capabilities();

struct ReadOnlyFolder {
  std::string from;  // outside
  std::string to;    // below the new root, as "/tls-cert"
};

struct SmallFile {   // put into the new root as it is now
  std::string path;  // below it, as "/etc/hosts"
  std::string content;
};

// The server's: a root that holds its data folder at /data, the cgroup tree read-only, /dev/null, /proc, and `folders`,
// read-only too: what is renamed into them later is seen, what their links point to outside is not; and `files` below
// /etc. Then `uid` without
// any capability. Returns with no_new_privs set.
Status confine_server(const char* data_dir, std::uint32_t uid, std::span<const ReadOnlyFolder> folders = {},
                      std::span<const SmallFile> files = {});

}  // namespace mayfly
