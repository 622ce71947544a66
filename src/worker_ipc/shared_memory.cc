#include "worker_ipc/shared_memory.h"

#include "worker_ipc/oip_checks.h"

namespace mayfly {
namespace {

Error unsupported(std::string_view tensor) {
  return invalid("shared_memory_unsupported",
                 "tensor \"{}\" asks for a shared memory region, which only callers on the host of a server with "
                 "--shared-memory may; send its data in the request",
                 shown(tensor));
}

}  // namespace

Status check_said_bytes(std::string_view name, std::string_view parameter, std::uint64_t bytes, const Shape& shape,
                        Dtype dtype, std::uint64_t count, std::span<const std::byte> room) {
  if (dtype != Dtype::kBytes && bytes != count * dtype_size(dtype)) {
    return invalid("tensor_size_mismatch", "input \"{}\": {} is {}; expected {} for shape {} of {}", name, parameter,
                   bytes, count * dtype_size(dtype), to_string(shape), dtype_name(dtype));
  }
  if (bytes <= room.size()) return Ok{};
  return invalid("payload_too_large", "input \"{}\": {} bytes do not fit; {} are left for inputs of one request", name,
                 bytes, room.size());
}

Status read_shared_input(const SharedMemoryAccess* access, const SharedPlace& from, std::string_view name,
                         const Shape& shape, Dtype dtype, std::uint64_t count, std::span<std::byte> room) {
  if (access == nullptr) return unsupported(name);
  MAYFLY_TRY(check_said_bytes(name, "shared_memory_byte_size", from.bytes, shape, dtype, count, room));
  const std::span<std::byte> to = room.first(from.bytes);
  MAYFLY_TRY(access->read(from.region, from.offset, to));
  return check_raw_elements(name, dtype, count, to);
}

Status check_shared_output(const SharedMemoryAccess* access, const SharedPlace& to, std::string_view name) {
  if (access == nullptr) return unsupported(name);
  return access->check(to.region, to.offset, to.bytes);
}

Status write_shared_output(const SharedMemoryAccess* access, const SharedPlace& to, std::string_view name,
                           std::span<const std::byte> bytes) {
  if (access == nullptr) return unsupported(name);
  if (bytes.size() > to.bytes) {
    return invalid("region_too_small",
                   "output \"{}\" has {} bytes; shared_memory_byte_size of the request is {}, in region \"{}\"", name,
                   bytes.size(), to.bytes, to.region);
  }
  return access->write(to.region, to.offset, bytes);
}

}  // namespace mayfly
