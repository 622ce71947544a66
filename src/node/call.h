// What a submitted slot works for: one request, or a batch of them. Lives on the reactor.
#pragma once
#include <cstdint>

#include "base/result.h"
#include "worker_ipc/arena.h"

namespace mayfly {

struct CallOutcome {
  Status status = Ok{};
  bool instance_lost = false;   // the call may be tried again elsewhere
  bool apart = false;           // it failed together with others, who may be at fault: ask again alone
  std::uint32_t rows = 0;       // of the run that answered it
  bool first = true;            // of those that the run answered, so that a run is counted once
  std::uint64_t waited_ns = 0;  // in an open batch, before it was submitted
};

class Call {
 public:
  virtual ~Call() = default;
  virtual SlotResult& result() = 0;                     // filled before finish() says OK
  virtual std::uint32_t requests() const { return 1; }  // that wait for it
  // Once, and then the instance has forgotten it.
  virtual void finish(CallOutcome outcome) = 0;
  // Gives up those whose deadline has passed. True: nobody waits any more, forget it.
  virtual bool expire(std::uint64_t now) = 0;
};

}  // namespace mayfly
