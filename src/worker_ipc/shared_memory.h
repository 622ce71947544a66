// How requests reach the shared memory regions of their caller (Triton's system shared memory extension): the gateway
// implements it for one caller, the codecs use it. Contents are copied, never mapped: a region may shrink at any time.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tensor/tensor.h"

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

// A place in a shared memory region; no region: none.
struct SharedPlace {
  std::string region;
  std::uint64_t bytes = 0, offset = 0;
  explicit operator bool() const { return !region.empty(); }
};

// What both codecs do with one. `access` may be null: shared_memory_unsupported.
// The raw bytes of an input of `count` elements, from its place into `room`. tensor_size_mismatch, payload_too_large,
// invalid_value, and the errors of SharedMemoryAccess.
Status read_shared_input(const SharedMemoryAccess* access, const SharedPlace& from, std::string_view name,
                         const Shape& shape, Dtype dtype, std::uint64_t count, std::span<std::byte> room);
Status check_shared_output(const SharedMemoryAccess* access, const SharedPlace& to, std::string_view name);
// region_too_small where the output has more bytes than its place.
Status write_shared_output(const SharedMemoryAccess* access, const SharedPlace& to, std::string_view name,
                           std::span<const std::byte> bytes);
// The size that a request says of an input's bytes, in `parameter`. tensor_size_mismatch, payload_too_large.
Status check_said_bytes(std::string_view name, std::string_view parameter, std::uint64_t bytes, const Shape& shape,
                        Dtype dtype, std::uint64_t count, std::span<const std::byte> room);

}  // namespace mayfly
