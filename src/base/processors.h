// The processors that this process may run on.
#pragma once
#include <sched.h>

namespace mayfly {

inline unsigned usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<unsigned>(CPU_COUNT(&set));
}

// Only then does waiting awake for another process help.
inline bool several_processors() { return usable_processors() > 1; }

}  // namespace mayfly
