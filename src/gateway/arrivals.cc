#include "gateway/arrivals.h"

#include <algorithm>
#include <utility>

namespace mayfly {
namespace {
constexpr double kGain = 0.125;  // of the moving mean
constexpr double kWorth = 0.1;   // one start in ten connections that is used is worth the others
}  // namespace

void Arrivals::note(std::uint64_t peer, std::string_view tenant, std::string_view name, std::uint64_t now_ns) {
  auto at = by_id_.find(peer);
  if (at == by_id_.end()) {
    if (peers_.size() == kMaxPeers) {
      by_id_.erase(peers_.back().id);
      peers_.pop_back();
    }
    peers_.push_front(Peer{peer, {}});
    at = by_id_.emplace(peer, peers_.begin()).first;
  } else if (at->second != peers_.begin()) {
    peers_.splice(peers_.begin(), peers_, at->second);
  }
  std::vector<Asked>& asked = at->second->asked;
  auto entry = std::find_if(asked.begin(), asked.end(),
                            [&](const Asked& a) { return a.name.name == name && a.name.tenant == tenant; });
  if (entry == asked.end()) {
    if (asked.size() == kMaxNames) {
      asked.erase(std::min_element(asked.begin(), asked.end(),
                                   [](const Asked& a, const Asked& b) { return a.last_ns < b.last_ns; }));
    }
    asked.push_back(Asked{{std::string(tenant), std::string(name)}, 0, false, 1});
    entry = asked.end() - 1;
  }
  entry->last_ns = now_ns;
  if (std::exchange(entry->connected, false)) entry->followed += kGain;
}

const std::vector<const Arrivals::Name*>& Arrivals::connected(std::uint64_t peer, std::uint64_t now_ns) {
  wake_.clear();
  const auto at = by_id_.find(peer);
  if (at == by_id_.end()) return wake_;
  for (Asked& a : at->second->asked) {
    if (now_ns > a.last_ns + kKeptNs) continue;
    if (a.followed >= kWorth) wake_.push_back(&a.name);
    a.followed *= 1 - kGain;
    a.connected = true;
  }
  return wake_;
}

}  // namespace mayfly
