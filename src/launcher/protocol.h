// The fixed-size messages between server, launcher and zygote, over SOCK_SEQPACKET pairs with descriptors attached.
// The launcher reads nothing else from the server. Sizes and kinds are checked; numbers are clamped by the launcher's
// own limits.
//
//   launcher ──BlankRequest(+cgroups, network namespace)──▶ zygote ──clone──▶ blank (ahead of need)
//   server ──LaunchRequest(+fds)──▶ launcher ──LaunchRequest(+fds)──▶ blank, which becomes an instance or a compile job
//   server ◀──LaunchEvent── launcher ◀──LaunchEvent(+pidfd, the blank's socket)── zygote
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "worker_ipc/arena.h"

namespace mayfly {

enum class LaunchKind : std::uint32_t {
  kInstance = 1,  // fds: artefact (read-only), arena, wake eventfd, done eventfd
  kCompile = 2,   // fds: model (read-only), report memfd, artefact (write)
  kEnd = 3,       // end sandbox `id` at once
  kPark = 4,      // stop all its threads: it keeps what it holds and gets no processor
  kResume = 5,    // let them go on
  kSettle = 6,    // its start is over: from now on its processor weight is that of any other
};
inline constexpr std::size_t kMaxLaunchFds = 4;
inline constexpr int kZygoteSocket = 3;  // the launcher's other end, the zygote's only descriptor above 2

struct LaunchRequest {
  LaunchKind kind = LaunchKind::kInstance;
  std::uint32_t cpu_milli = 1000;
  std::uint64_t id = 0;  // chosen by the server, never reused in its life
  std::uint64_t memory_bytes = 0;
  std::uint64_t file_bytes = 0;     // size of artefact or model
  std::uint64_t scratch_bytes = 0;  // kCompile
  ArenaGeometry geometry;           // kInstance
};

// Asks the zygote for a blank: a clone that has joined its cgroups and its network namespace and waits for one
// LaunchRequest. Joining costs 10 ms where the kernel waits for a grace period, so it is done ahead. fds: cgroup.procs
// files, network namespace.
struct BlankRequest {
  std::uint64_t id = 0;  // the launcher's own number
  std::uint32_t uid = 0;
  std::uint32_t cgroup_count = 0;
  std::uint32_t require_all = 1;
  std::uint32_t pad = 0;
};

enum class LaunchEventKind : std::uint32_t {
  kReady = 1,    // zygote is primed; text: runtime version
  kStarted = 2,  // pid; text: the file with its memory use
  kExited = 3,   // wait_status, oom_kills, peak_bytes
  kRefused = 4,  // could not be started; text says why
};

struct LaunchEvent {
  LaunchEventKind kind = LaunchEventKind::kReady;
  std::int32_t pid = 0;
  std::uint64_t id = 0;
  std::int32_t wait_status = 0;
  std::uint32_t oom_kills = 0;
  std::uint64_t peak_bytes = 0;
  char text[160] = {};
};

// Sends one message; blocks unless flags has MSG_DONTWAIT. False: errno tells; EAGAIN, or the peer is gone.
bool send_message(int socket, const void* data, std::size_t bytes, std::span<const int> fds, int flags = 0);
// Receives one message of exactly `bytes`. received == 0: end of file; < 0: errno.
struct Received {
  std::int64_t bytes = 0;
  std::vector<Fd> fds;
};
Received receive_message(int socket, void* data, std::size_t bytes);
void set_text(char (&text)[160], std::string_view s);

}  // namespace mayfly
