#include "policy/residency.h"

#include <algorithm>
#include <cmath>

namespace mayfly::policy {
namespace {

// Counts what is free while residents are marked as going and spared again.
class Freed {
 public:
  Freed(std::span<const Resident> residents, std::span<const std::uint64_t> shared)
      : residents_(residents), shared_(shared), members_(shared.size(), 0) {
    for (const Resident& r : residents_) {
      if (r.group < shared_.size()) ++members_[r.group];
    }
    kept_ = members_;
  }
  std::uint64_t members(std::size_t group) const { return members_[group]; }
  std::uint64_t bytes() const { return bytes_; }
  void mark(std::size_t i) {
    const Resident& r = residents_[i];
    bytes_ += r.own_bytes;
    if (r.group < shared_.size() && --kept_[r.group] == 0) bytes_ += shared_[r.group];
  }
  void spare(std::size_t i) {
    const Resident& r = residents_[i];
    bytes_ -= r.own_bytes;
    if (r.group < shared_.size() && kept_[r.group]++ == 0) bytes_ -= shared_[r.group];
  }

 private:
  std::span<const Resident> residents_;
  std::span<const std::uint64_t> shared_;
  std::vector<std::uint64_t> members_, kept_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

double use_within(std::uint64_t horizon_ns, std::uint64_t gap_ns, std::uint64_t since_ns) {
  const double mean = static_cast<double>(std::max<std::uint64_t>({gap_ns, since_ns, 1}));
  return 1 - std::exp(-static_cast<double>(horizon_ns) / mean);
}

std::vector<std::size_t> choose_evictions(std::span<const Resident> residents, std::span<const std::uint64_t> shared,
                                          std::uint64_t need_bytes) {
  if (need_bytes == 0) return {};
  Freed freed(residents, shared);
  // Its part of what it shares counts: the last of a group frees the whole, but one alone can't.
  const auto worth = [&](const Resident& r) {
    double bytes = static_cast<double>(r.own_bytes);
    if (r.group < shared.size())
      bytes += static_cast<double>(shared[r.group]) / static_cast<double>(freed.members(r.group));
    return static_cast<double>(r.restart_ns) * r.use / std::max(bytes, 1.0);
  };
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < residents.size(); ++i) {
    if (!residents[i].in_use) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const double x = worth(residents[a]), y = worth(residents[b]);
    return x != y ? x < y : a < b;
  });
  std::vector<std::size_t> chosen;
  for (const std::size_t i : order) {
    if (freed.bytes() >= need_bytes) break;
    freed.mark(i);
    chosen.push_back(i);
  }
  if (freed.bytes() < need_bytes) return {};
  // The worthiest first: what later choices made superfluous stays.
  for (std::size_t n = chosen.size(); n-- > 0;) {
    freed.spare(chosen[n]);
    if (freed.bytes() >= need_bytes)
      chosen.erase(chosen.begin() + static_cast<std::ptrdiff_t>(n));
    else
      freed.mark(chosen[n]);
  }
  return chosen;
}

}  // namespace mayfly::policy
