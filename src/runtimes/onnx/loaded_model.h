// A session with the runner that answers slots with it: what is exchanged when an instance changes its tier. On the
// heap, since the runner refers to the session.
#pragma once
#include <memory>

#include "runtimes/onnx/slot_runner.h"

namespace mayfly {

struct LoadedModel {
  Session session;
  std::unique_ptr<SlotRunner> runner;

  // The errors of Session::create and SlotRunner::create.
  static Result<std::unique_ptr<LoadedModel>> create(const Ort& ort, std::span<const std::byte> artefact,
                                                     const SessionConfig& config, const ArenaView& arena) {
    auto session = Session::create(ort, artefact, config);
    if (!session.ok()) return std::move(session.error());
    auto model = std::make_unique<LoadedModel>();
    model->session = std::move(*session);
    auto runner = SlotRunner::create(ort, model->session, arena);
    if (!runner.ok()) return std::move(runner.error());
    model->runner = std::move(*runner);
    return model;
  }
};

}  // namespace mayfly
