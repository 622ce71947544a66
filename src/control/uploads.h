// Uploads that no deploy has taken up. One that nobody deploys within kKeptNs expires. A value; time is an argument.
#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace mayfly {

class Uploads {
 public:
  static constexpr std::uint64_t kKeptNs = 3600ULL * 1'000'000'000;
  void add(const std::string& package, std::uint64_t now_ns) { until_ns_[package] = now_ns + kKeptNs; }
  void take(const std::string& package) { until_ns_.erase(package); }
  bool contains(const std::string& package) const { return until_ns_.contains(package); }
  std::vector<std::string> take_expired(std::uint64_t now_ns) {
    std::vector<std::string> out;
    std::erase_if(until_ns_, [&](const auto& upload) {
      if (now_ns < upload.second) return false;
      out.push_back(upload.first);
      return true;
    });
    return out;
  }

 private:
  std::unordered_map<std::string, std::uint64_t> until_ns_;  // one entry for a package, however often it came
};

}  // namespace mayfly
