#include "observe/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <iterator>

namespace mayfly {

void Histogram::add_ns(std::uint64_t ns) {
  const double s = static_cast<double>(ns) * 1e-9;
  const auto at = std::lower_bound(kBounds.begin(), kBounds.end(), s) - kBounds.begin();
  ++buckets_[static_cast<std::size_t>(at)];
  ++count_;
  sum_ += s;
}

void Histogram::print(std::string& out, std::string_view name, std::string_view labels) const {
  auto to = std::back_inserter(out);
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < kBounds.size(); ++i) {
    below += buckets_[i];
    fmt::format_to(to, "{}_bucket{{{}le=\"{}\"}} {}\n", name, labels, kBounds[i], below);
  }
  fmt::format_to(to, "{}_bucket{{{}le=\"+Inf\"}} {}\n", name, labels, count_);
  if (!labels.empty()) labels.remove_suffix(1);
  fmt::format_to(to, "{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels, sum_, name, labels, count_);
}

void RowHistogram::add(std::uint64_t rows) {
  const auto at = rows <= 1 ? 0 : static_cast<std::size_t>(std::bit_width(rows - 1));
  ++buckets_[std::min(at, kBounds)];
  ++runs_;
  rows_ += rows;
}

void RowHistogram::print(std::string& out, std::string_view name, std::string_view labels) const {
  auto to = std::back_inserter(out);
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < kBounds; ++i) {
    below += buckets_[i];
    fmt::format_to(to, "{}_bucket{{{}le=\"{}\"}} {}\n", name, labels, 1U << i, below);
  }
  fmt::format_to(to, "{}_bucket{{{}le=\"+Inf\"}} {}\n", name, labels, runs_);
  if (!labels.empty()) labels.remove_suffix(1);
  fmt::format_to(to, "{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels, rows_, name, labels, runs_);
}

}  // namespace mayfly
