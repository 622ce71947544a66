// The only privileged process. It makes cgroups and empty network namespaces ahead of need, hands them with the
// server's descriptors to the zygote, and reports what became of each sandbox. It parses no foreign bytes: only
// LaunchRequest from the server and LaunchEvent from the zygote, both of fixed size. Single-threaded; one poll loop. It
// lives as long as the server's socket is open: at its end it kills every sandbox, the zygote, and removes its cgroups.
#pragma once
#include <functional>

#include "base/result.h"

namespace mayfly {

struct LauncherOptions {
  int server_socket = -1;
  bool require_isolation = true;         // false: go on where the host lacks a piece
  std::uint32_t first_uid = 0x70000000;  // sandboxes get ids from here, one million of them in turn
  std::function<Error()> exec_zygote;    // in a process of its own: becomes the zygote, or tells why not
};
int launcher_main(const LauncherOptions& options);

}  // namespace mayfly
