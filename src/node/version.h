// What the node needs to run one version of an endpoint. Immutable but for its counters; shared by the route table, the
// pool and requests under way (shared_ptr: a request keeps its version through a rollout or a delete).
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "node/prefetch.h"
#include "policy/hold.h"
#include "policy/tier.h"
#include "tensor/tensor.h"
#include "worker_ipc/arena.h"
#include "worker_ipc/batch_plan.h"

namespace mayfly {

struct NodeSettings {  // the part of an endpoint's settings that the node acts upon
  std::uint64_t memory_bytes = 512ULL << 20;
  std::uint32_t cpu_milli = 1000;
  std::uint32_t threads = 0;  // of a run; 0: as many as cpu_milli allows
  std::uint32_t min_instances = 0, max_instances = 10, concurrency = 8;
  std::uint32_t parked = 0;  // instances kept ready with their process stopped
  std::vector<policy::ProvisionWindow> provisioned;
  std::uint64_t cold_start_budget_ms = 0;  // 0: none
  std::uint64_t idle_ms = 10'000, timeout_ms = 30'000;
  std::uint32_t queue = 1024;
  std::uint32_t batch_max = 1;       // rows of several requests in one run; 1: requests run one by one
  std::uint64_t batch_delay_us = 0;  // that an idle instance waits for more rows, at most
  std::uint64_t max_request_bytes = 32ULL << 20, max_response_bytes = 32ULL << 20;
};

// What is known of an artefact on this machine. Shared by all versions of its package; changes when it is built anew.
struct ArtefactFile {
  std::uint64_t bytes = 0;     // of the whole file; 0: not known
  std::uint64_t build_ns = 0;  // that its compile job took; 0: not known
  std::string path;
  // Why the quota has dropped it, or its package, the last time; empty: it has not.
  std::string dropped, package_dropped;
};

struct Version {
  std::string tenant, endpoint;
  std::uint32_t number = 0;
  std::string number_text;  // "3"
  Signature signature;
  NodeSettings settings;
  TransformConfig transform;
  BatchPlan batch;
  policy::TierPlan tier;
  std::shared_ptr<Prefetch> prefetch;            // may be null: where the deploy recorded nothing
  std::uint64_t heap_bytes = 0;                  // private memory of session and runs, as the deploy measured it
  std::string artefact_path;                     // relative to the data folder
  std::string package;                           // digest
  std::shared_ptr<const ArtefactFile> artefact;  // may be null: nothing is known of it
  std::string display() const { return '"' + endpoint + "\" version " + number_text; }
};
using VersionPtr = std::shared_ptr<const Version>;

// Where the time of one start or request went, nanoseconds.
enum class StartKind : std::uint8_t { kWarm, kParked, kCold };  // what a request found

constexpr std::string_view start_name(StartKind k) {
  return k == StartKind::kCold ? "cold" : k == StartKind::kParked ? "parked" : "warm";
}

struct Phases {
  StartKind start = StartKind::kWarm;
  std::uint64_t receive = 0, parse = 0, print = 0;  // the body, the tensors, the answer
  std::uint64_t queue = 0, fetch = 0, fork = 0, isolate = 0, map = 0, init = 0, resume = 0, infer = 0, total = 0;
};

}  // namespace mayfly
