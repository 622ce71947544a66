// What the node has learnt of a version. Outlives the version's pool, so that an endpoint at zero still knows what a
// start costs; goes when the version is retired. Owner: the node; one reactor.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "node/version.h"
#include "policy/admit.h"

namespace mayfly {

struct NodeEvent {
  std::uint64_t unix_ms = 0;
  std::uint64_t instance = 0;  // 0: none
  std::string what, detail;
};

struct PoolCounters {
  std::uint64_t supplies = 0;  // starts that had to wait for their artefact
  std::uint64_t starts = 0, start_failures = 0, deaths = 0, resumes = 0, evictions = 0;
};

// Bytes and times of a version, as measured.
struct Measures {
  policy::RunTime work;              // inside the runtime
  policy::RunTime run;               // of a run, the hand-over included
  policy::RunTime request;           // of it for each request that it answered
  policy::RunTime start;             // from spawning to ready
  policy::RunTime resume;            // from resuming a parked instance to its answer
  std::uint64_t private_bytes = 0;   // of the largest instance
  std::uint64_t artefact_bytes = 0;  // mapped shared by all instances
};

struct VersionRecord {
  static constexpr std::size_t kKeptEvents = 20;
  explicit VersionRecord(VersionPtr v) : version(std::move(v)) {}

  VersionPtr version;
  Measures measures;
  PoolCounters counters;
  std::uint64_t gap_ns = 0, last_arrival_ns = 0;  // between requests, moving mean; of the last one
  bool artefact_cached = false;                   // its pages are in memory as far as known
  std::string last_eviction;                      // why, of the latest instance
  std::vector<NodeEvent> events;                  // the latest ones, oldest first

  void note(NodeEvent event) {
    if (events.size() == kKeptEvents) events.erase(events.begin());
    events.push_back(std::move(event));
  }
  // What a request waits for a start, over the answer of a warm instance; 0: not measured.
  std::uint64_t cold_ns() const { return over_warm(measures.start); }
  std::uint64_t resume_ns() const { return over_warm(measures.resume); }
  // What one more instance is expected to take.
  std::uint64_t expected_bytes() const;

 private:
  std::uint64_t over_warm(const policy::RunTime& t) const {
    if (!t.measured()) return 0;
    // Not `run`: the first request waits in the ring for the start, which counts as its run.
    const std::uint64_t warm = measures.work.mean_ns();
    return t.high_ns() > warm ? t.high_ns() - warm : 1;
  }
};

}  // namespace mayfly
