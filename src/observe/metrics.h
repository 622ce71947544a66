// Counters and histograms of one endpoint, and their Prometheus text. One reactor writes and reads: plain integers.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace mayfly {

// Fixed bounds from 50 µs to 30 s, in seconds; the last bucket is +Inf.
class Histogram {
 public:
  static constexpr std::array<double, 18> kBounds = {50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 15e-3,
                                                     25e-3, 50e-3,  100e-3, 250e-3, 0.5,  1,      2.5,  10,    30};
  void add_ns(std::uint64_t ns);
  std::uint64_t count() const { return count_; }
  std::uint64_t sum_ns() const { return static_cast<std::uint64_t>(sum_ * 1e9); }
  // Appends name_bucket, name_sum and name_count lines; labels like `endpoint="x",`.
  void print(std::string& out, std::string_view name, std::string_view labels) const;

 private:
  std::array<std::uint64_t, kBounds.size() + 1> buckets_{};
  std::uint64_t count_ = 0;
  double sum_ = 0;
};

// How many rows each run had: powers of two up to 1024; the last bucket is +Inf.
class RowHistogram {
 public:
  static constexpr std::size_t kBounds = 11;
  void add(std::uint64_t rows);
  std::uint64_t runs() const { return runs_; }
  std::uint64_t rows() const { return rows_; }
  void print(std::string& out, std::string_view name, std::string_view labels) const;

 private:
  std::array<std::uint64_t, kBounds + 1> buckets_{};
  std::uint64_t runs_ = 0, rows_ = 0;
};

struct EndpointMetrics {
  std::uint64_t requests = 0, errors = 0, cold = 0, resumed = 0, retries = 0, rejected = 0;
  std::uint64_t rate_limited = 0, concurrency_limited = 0;  // refused for the caller's key
  std::uint64_t cancelled = 0;                              // the caller went away
  std::uint64_t connection_wakes = 0;                       // by wake_on: connection
  std::uint64_t tier_ups = 0;                               // instances that changed to the packed form
  std::uint64_t rebuilt = 0, fetched = 0;                   // artefacts that a start found missing
  Histogram total, receive, parse, queue, infer, print, start, fetch;
  RowHistogram rows;           // runs that answered
  std::uint64_t error_ns = 0;  // the part of `total` that ended in an error
  std::uint64_t last_ns = 0;   // CLOCK_MONOTONIC, of the latest answer; 0: none
};

}  // namespace mayfly
