// System-call allow-lists, compiled to BPF once (in the zygote) and loaded by each sandboxed child. Everything else
// fails with EPERM; clone makes threads only; clone3 fails with ENOSYS so that libc falls back to clone, whose flags
// can be checked.
#pragma once
#include <linux/filter.h>

#include <vector>

#include "base/result.h"

namespace mayfly {

enum class SeccompProfile {
  kInstance,  // compute on mapped memory: no files, no sockets, no processes
  kCompile,   // the same, and files below its private scratch folder
};

class SeccompProgram {
 public:
  static Result<SeccompProgram> compile(SeccompProfile profile);
  // For the calling thread; needs no_new_privs. Returns 0 or an errno. Async-signal-safe.
  int load() const;

 private:
  std::vector<sock_filter> code_;
};

}  // namespace mayfly
