// Triton's system shared memory extension: regions of POSIX shared memory that callers on this host register by name.
// Owner: the gateway; one reactor. Only with `serve --shared-memory`, which opens the folder of shared memory before
// the server confines itself; only for callers on a loopback address.
//
// A key names a file right in that folder: no path, no symbolic link, a regular file on its file system, which the
// server's own user may open (the server has no privilege to reach others' files). Regions belong to the tenant that
// registered them. Contents are copied with pread and pwrite, never mapped: a file that shrinks is an error of one
// request and not a SIGBUS. Bounds are checked at registration and at each use.
// Source: Triton, protocol/extension_shared_memory.md.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "worker_ipc/shared_memory.h"

namespace mayfly {

class SharedMemory {
 public:
  static constexpr std::size_t kMaxRegions = 1024;  // of all tenants; each holds a descriptor
  static constexpr std::size_t kMaxNameBytes = 255;

  struct Region {
    std::string key;
    std::uint64_t offset = 0, bytes = 0;
    Fd file;
  };
  using Regions = std::map<std::string, Region, std::less<>>;  // by name

  // `folder`: an open directory, or nothing where the server was started without shared memory.
  explicit SharedMemory(Fd folder) : folder_(std::move(folder)) {}
  bool enabled() const { return folder_.valid(); }

  // Errors: invalid "invalid_region" (name, key, file, bounds), "region_exists", "too_many_regions",
  // "region_not_found".
  Status add(std::string_view tenant, std::string_view name, std::string_view key, std::uint64_t offset,
             std::uint64_t bytes);
  Status remove(std::string_view tenant, std::string_view name);  // nothing there is no error, as in Triton
  void remove_all(std::string_view tenant);
  const Regions& of(std::string_view tenant) const;

 private:
  Fd folder_;
  std::map<std::string, Regions, std::less<>> tenants_;
  std::size_t count_ = 0;
};

Error no_such_region(std::string_view name);  // not_found "region_not_found"

// The regions of one caller. A value; borrows the registry.
class CallerRegions final : public SharedMemoryAccess {
 public:
  CallerRegions(const SharedMemory& all, std::string_view tenant) : all_(all), tenant_(tenant) {}
  Status check(std::string_view name, std::uint64_t offset, std::uint64_t bytes) const override;
  Status read(std::string_view name, std::uint64_t offset, std::span<std::byte> to) const override;
  Status write(std::string_view name, std::uint64_t offset, std::span<const std::byte> from) const override;

 private:
  Result<const SharedMemory::Region*> find(std::string_view name, std::uint64_t offset, std::uint64_t bytes) const;
  const SharedMemory& all_;
  std::string_view tenant_;
};

}  // namespace mayfly
