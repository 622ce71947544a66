// Writing all of a buffer, however many calls it takes.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>

namespace mayfly {

// At most `piece` bytes a call. False with errno set if not all could be written.
inline bool write_all(int fd, std::span<const std::byte> data, std::size_t piece = 1 << 30) {
  while (!data.empty()) {
    const ssize_t n = write(fd, data.data(), std::min(data.size(), piece));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data = data.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace mayfly
