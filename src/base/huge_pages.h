// Pages of 2 MB for memory of this process (Linux: transparent huge pages).
#pragma once
#include <sys/mman.h>

#include <cstddef>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1
#endif

namespace mayfly {

inline constexpr std::size_t kHugePage = 2 << 20;

// Whether all of the range lies on huge pages now; what did not is moved there if the kernel has any to give. Both ends
// on a boundary of kHugePage, anonymous memory that has been written to.
inline bool move_to_huge_pages(void* begin, std::size_t bytes) { return madvise(begin, bytes, MADV_COLLAPSE) == 0; }

// A trial with one page.
inline bool huge_pages_available() {
  void* at = mmap(nullptr, 2 * kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return false;
  const std::size_t past = reinterpret_cast<std::size_t>(at) % kHugePage;
  char* const begin = static_cast<char*>(at) + (past == 0 ? 0 : kHugePage - past);
  *begin = 1;
  const bool moved = move_to_huge_pages(begin, kHugePage);
  munmap(at, 2 * kHugePage);
  return moved;
}

}  // namespace mayfly
