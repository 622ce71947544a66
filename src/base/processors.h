// Whether this process may run on more than one processor: only then does waiting awake for another process help.
#pragma once
#include <sched.h>

namespace mayfly {

inline bool several_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 1;
}

}  // namespace mayfly
