#pragma once
#include <cstdint>
#include <string>

namespace mayfly {

struct ControlOptions {
  std::string data_dir;
  std::uint64_t max_package_bytes = 4ULL << 30;
  std::uint64_t tenant_quota_bytes = 64ULL << 30;
  std::uint64_t disk_quota_bytes = 0;  // of packages and artefacts on the local disk; 0: none
  std::string runtime_version;         // part of an artefact's key
};

}  // namespace mayfly
