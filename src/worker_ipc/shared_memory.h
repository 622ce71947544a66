// How requests reach the shared memory regions of their caller (Triton's system shared memory extension): the gateway
// implements it for one caller, the codec uses it. Contents are copied, never mapped: a region may shrink at any time.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace mayfly {

class SharedMemoryAccess {
 public:
  virtual ~SharedMemoryAccess() = default;
  // `bytes` at `offset` of region `name` lie inside it. Errors: not_found "region_not_found", invalid
  // "region_too_small".
  virtual Status check(std::string_view name, std::uint64_t offset, std::uint64_t bytes) const = 0;
  // As check(), and the bytes are copied. Also "region_too_small" where the file behind it has shrunk.
  virtual Status read(std::string_view name, std::uint64_t offset, std::span<std::byte> to) const = 0;
  virtual Status write(std::string_view name, std::uint64_t offset, std::span<const std::byte> from) const = 0;
};

}  // namespace mayfly
