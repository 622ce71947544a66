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
  // Appends name_bucket, name_sum and name_count lines; labels like `endpoint="x",`.
  void print(std::string& out, std::string_view name, std::string_view labels) const;

 private:
  std::array<std::uint64_t, kBounds.size() + 1> buckets_{};
  std::uint64_t count_ = 0;
  double sum_ = 0;
};

struct EndpointMetrics {
  std::uint64_t requests = 0, errors = 0, cold = 0, retries = 0, rejected = 0;
  std::uint64_t rate_limited = 0, concurrency_limited = 0;  // refused for the caller's key
  Histogram total, queue, infer, start;
};

}  // namespace mayfly
