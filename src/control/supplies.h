// Brings artefacts that a start finds missing: one task for each package, whatever versions wait for it, and at most
// kAtOnce tasks at a time; further ones wait in order. While one runs its package is held, so that a delete meanwhile
// takes nothing from under it; what is then nobody's goes at its end. One reactor.
#pragma once
#include <deque>
#include <string>

#include "async/async.h"
#include "async/one_shot.h"
#include "async/single_flight.h"
#include "control/artefacts.h"
#include "node/supply.h"

namespace mayfly {

class Supplies final : public ArtefactSupply {
 public:
  static constexpr std::size_t kAtOnce = 2;  // each has a compile job of two CPUs
  Supplies(Executor ex, Artefacts& artefacts) : executor_(ex), artefacts_(artefacts) {}
  Task<Result<Supplied>> supply(VersionPtr version) override;

 private:
  Task<Result<Supplied>> bring(VersionPtr version);
  static Task<void> collect(Artefacts* artefacts, std::string package);
  Task<void> begin();
  void end();

  Executor executor_;
  Artefacts& artefacts_;
  SingleFlight<Result<Supplied>> under_way_;  // by package
  std::size_t running_ = 0;
  std::deque<OneShot<Ok>*> queue_;  // tasks that wait for their turn
};

}  // namespace mayfly
