// What the load generator can do: requests over HTTP, and the same model in this process (the floor that a server is
// compared with). Single-threaded. Times are microseconds.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace mayfly::bench {

struct Latencies {
  std::vector<double> us;          // one per measured request, in order of completion
  double seconds = 0;              // of the whole measured part
  std::uint64_t failed = 0;        // answers other than 200
  std::string first_failure = {};  // the start of the first such answer
};

struct LoadOptions {
  std::uint16_t port = 0;       // on 127.0.0.1
  std::string request;          // head and body, sent as it is
  std::size_t connections = 1;  // one request is open on each at any time
  std::size_t warmup = 0;       // requests before the clock starts
  std::size_t count = 0;        // measured requests
};

// Keep-alive HTTP/1.1 with answers that have a Content-Length. Fails (load_failed) if a connection can't be made, ends,
// or brings an answer it can't read: a benchmark that lost requests has no result.
Result<Latencies> run_load(const LoadOptions& options);

// Session::Run on one thread, fully optimised and pre-packed, fed with zeros of `shape`: FP32, one input.
Result<Latencies> run_floor(const std::string& library, const std::string& model, const Shape& shape,
                            std::size_t warmup, std::size_t count);

std::uint64_t now_ns();

}  // namespace mayfly::bench
