// What the load generator can do: requests over HTTP/1.1 or gRPC in a closed or an open loop, and the same model in
// this process (the floor that a server is compared with). One thread. Times are microseconds unless the name says
// otherwise.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace mayfly::bench {

// What became of a request. A gRPC status counts as the HTTP status of the same meaning: 8 as 429, 14 as 503, 4 as 504.
enum class Outcome : std::uint8_t {
  kOk,
  kTooMany,      // 429
  kUnavailable,  // 503
  kTimedOut,     // 504
  kOther,        // any other status
  kWrong,        // 200, but the expected bytes are not in it
  kCut,          // the connection ended before the answer was complete
  kHung,         // no complete answer within LoadOptions::timeout_s
};
constexpr std::array<std::string_view, 8> kOutcomeNames = {"200", "429", "503", "504", "other", "wrong", "cut", "hung"};
constexpr std::size_t kMaxFailures = 20;  // this many are kept with their text

struct Failure {
  double unix_s = 0;  // when it was noticed, comparable with the times in a server's log
  Outcome outcome = Outcome::kOther;
  double us = 0;
  std::string text;  // the start of the answer
};

struct Report {
  std::array<std::vector<float>, kOutcomeNames.size()> us;  // one per measured request, by outcome
  std::vector<float> lag_us;                                // open loop: from the intended start to the send
  std::vector<Failure> failures;                            // the first ones
  double seconds = 0;                                       // of the whole measured part
  double cpu_s = 0;                                         // of this process in it
  std::uint64_t ok_in_time = 0;  // open loop: 200s that were complete before the arrivals ended
  std::uint64_t unsent = 0;      // open loop: arrivals for which no connection became free
  std::uint64_t reconnects = 0;

  std::uint64_t failed() const;
};

struct Case {
  std::string request;  // HTTP: head and body as they are sent. gRPC: one message with its 5 bytes of frame
  std::string expect;   // bytes that a right answer's body has; empty: any
};

enum class Protocol : std::uint8_t { kHttp1, kGrpc };

struct LoadOptions {
  Protocol protocol = Protocol::kHttp1;
  std::uint16_t port = 0;       // on 127.0.0.1
  std::vector<Case> cases;      // sent in turn
  std::string key;              // gRPC: sent as bearer token. (HTTP: part of the request)
  std::size_t connections = 1;  //
  std::size_t streams = 1;      // open requests of one connection; more than 1 with gRPC only
  std::size_t warmup = 0;       // closed loop: requests before the clock starts
  std::size_t count = 0;        // closed loop: measured requests; 0: as many as `seconds` hold
  double seconds = 0;           // how long requests are started
  double rate = 0;              // open loop: requests per second, evenly spaced; 0: closed loop
  double timeout_s = 60;        // a request without an answer for so long is given up
};

// Closed loop: every stream of every connection has one request open. Open loop: requests are due at fixed times,
// whether or not earlier ones are answered, and their latency counts from the time that they were due. SIGTERM ends the
// starting of requests early; those under way are waited for. Fails (load_failed) if a connection can't be made or an
// answer can't be read.
Result<Report> run_load(const LoadOptions& options);

// Session::Run on one thread, fully optimised and pre-packed, fed with zeros of `shape`: FP32, one input.
Result<Report> run_floor(const std::string& library, const std::string& model, const Shape& shape, std::size_t warmup,
                         std::size_t count);

// A worker that is forked and executed for each of `count` requests: run_once_and_answer() in a new process. The model
// is an .onnx file, or with ort_format an artefact of ours.
Result<Report> run_fork_exec(const std::string& library, const std::string& model, bool ort_format, std::size_t count);
// That worker: one run on zeros, then one byte on stdout.
Status run_once_and_answer(const std::string& library, const std::string& model, bool ort_format);

// A framed inference.ModelInferRequest with one input, its numbers raw.
std::string encode_infer_request(std::string_view model, std::string_view input, std::string_view datatype,
                                 const std::vector<std::int64_t>& shape, std::string_view raw);

std::uint64_t now_ns();

}  // namespace mayfly::bench
