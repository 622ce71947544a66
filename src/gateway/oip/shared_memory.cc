#include "gateway/oip/shared_memory.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace mayfly {
namespace {

Error cannot_open(std::string_view key, int error) {
  if (error == EACCES || error == EPERM) {
    return invalid(
        "invalid_region",
        "cannot open shared memory \"{}\": its file does not let the server's user read and write it; give it to "
        "that user, or run the client as that user",
        key);
  }
  return invalid("invalid_region", "cannot open shared memory \"{}\": {}", key, std::strerror(error));
}

Result<Fd> open_region(int folder, std::string_view key) {
  const std::string_view name = !key.empty() && key.front() == '/' ? key.substr(1) : key;  // shm_open's own form
  if (name.empty() || name.size() > SharedMemory::kMaxNameBytes || name == "." || name == ".." ||
      name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos) {
    return invalid("invalid_region", "the key \"{}\" is no name of POSIX shared memory: one name, without a path",
                   key.substr(0, SharedMemory::kMaxNameBytes));
  }
  open_how how{};
  how.flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  const long fd = syscall(SYS_openat2, folder, std::string(name).c_str(), &how, sizeof how);
  if (fd < 0) return cannot_open(key, errno);
  Fd file(static_cast<int>(fd));
  struct stat st{};
  if (fstat(file.get(), &st) != 0) return cannot_open(key, errno);
  if (!S_ISREG(st.st_mode)) return invalid("invalid_region", "\"{}\" is no shared memory: not a regular file", key);
  return file;
}

std::uint64_t size_of(int fd) {
  struct stat st{};
  return fstat(fd, &st) == 0 && st.st_size > 0 ? static_cast<std::uint64_t>(st.st_size) : 0;
}

Error shrunk(std::string_view name) {
  return invalid("region_too_small", "the file of shared memory region \"{}\" is smaller than it was when registered",
                 name);
}

}  // namespace

Status SharedMemory::add(std::string_view tenant, std::string_view name, std::string_view key, std::uint64_t offset,
                         std::uint64_t bytes) {
  if (name.empty() || name.size() > kMaxNameBytes)
    return invalid("invalid_region", "a region's name has 1 to {} bytes", kMaxNameBytes);
  Regions& regions = tenants_[std::string(tenant)];
  if (regions.find(name) != regions.end()) {
    return make_error(Code::kAlreadyExists, "region_exists",
                      "shared memory region \"{}\" is registered already; unregister it first", name);
  }
  if (count_ >= kMaxRegions) {
    return make_error(Code::kResourceExhausted, "too_many_regions",
                      "{} shared memory regions are registered, the limit; unregister some", count_);
  }
  auto file = open_region(folder_.get(), key);
  if (!file.ok()) return std::move(file.error());
  const std::uint64_t size = size_of(file->get());
  if (bytes == 0 || bytes > size || offset > size - bytes) {
    return invalid("invalid_region", "region \"{}\": {} bytes at {} do not lie in \"{}\", which has {} bytes", name,
                   bytes, offset, key, size);
  }
  regions[std::string(name)] = Region{std::string(key), offset, bytes, std::move(*file)};
  ++count_;
  return Ok{};
}

Status SharedMemory::remove(std::string_view tenant, std::string_view name) {
  auto it = tenants_.find(tenant);
  if (it == tenants_.end()) return Ok{};
  if (auto region = it->second.find(name); region != it->second.end()) {
    it->second.erase(region);
    --count_;
  }
  return Ok{};
}

void SharedMemory::remove_all(std::string_view tenant) {
  auto it = tenants_.find(tenant);
  if (it == tenants_.end()) return;
  count_ -= it->second.size();
  tenants_.erase(it);
}

const SharedMemory::Regions& SharedMemory::of(std::string_view tenant) const {
  static const Regions kNone;
  auto it = tenants_.find(tenant);
  return it == tenants_.end() ? kNone : it->second;
}

Error no_such_region(std::string_view name) {
  return make_error(Code::kNotFound, "region_not_found",
                    "no shared memory region \"{}\" is registered; register it first",
                    name.substr(0, SharedMemory::kMaxNameBytes));
}

Result<const SharedMemory::Region*> CallerRegions::find(std::string_view name, std::uint64_t offset,
                                                        std::uint64_t bytes) const {
  const auto& regions = all_.of(tenant_);
  auto it = regions.find(name);
  if (it == regions.end()) return no_such_region(name);
  const SharedMemory::Region& r = it->second;
  if (bytes <= r.bytes && offset <= r.bytes - bytes) return &r;
  return invalid("region_too_small", "{} bytes at {} do not lie in shared memory region \"{}\" of {} bytes", bytes,
                 offset, name, r.bytes);
}

Status CallerRegions::check(std::string_view name, std::uint64_t offset, std::uint64_t bytes) const {
  auto r = find(name, offset, bytes);
  if (!r.ok()) return std::move(r.error());
  return Ok{};
}

Status CallerRegions::read(std::string_view name, std::uint64_t offset, std::span<std::byte> to) const {
  auto r = find(name, offset, to.size());
  if (!r.ok()) return std::move(r.error());
  std::uint64_t at = (*r)->offset + offset;
  while (!to.empty()) {
    const ssize_t n = pread((*r)->file.get(), to.data(), to.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return shrunk(name);
    to = to.subspan(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
  return Ok{};
}

Status CallerRegions::write(std::string_view name, std::uint64_t offset, std::span<const std::byte> from) const {
  auto r = find(name, offset, from.size());
  if (!r.ok()) return std::move(r.error());
  std::uint64_t at = (*r)->offset + offset;
  // pwrite would make a file grow again that has shrunk.
  if (at + from.size() > size_of((*r)->file.get())) return shrunk(name);
  while (!from.empty()) {
    const ssize_t n = pwrite((*r)->file.get(), from.data(), from.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return errno_error(errno, fmt::format("write to shared memory region \"{}\"", name));
    from = from.subspan(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
  return Ok{};
}

}  // namespace mayfly
