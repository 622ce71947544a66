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

// New memory that begins on a boundary of kHugePage, `bytes` a multiple of it; null if there is none. munmap() frees
// it.
inline char* map_aligned(std::size_t bytes) {
  void* const got = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (got == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(got);
  const std::size_t before = (kHugePage - reinterpret_cast<std::size_t>(got) % kHugePage) % kHugePage;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + bytes, kHugePage - before);
  return begin + before;
}

// A trial with one page.
inline bool huge_pages_available() {
  char* const page = map_aligned(kHugePage);
  if (page == nullptr) return false;
  *page = 1;
  const bool moved = move_to_huge_pages(page, kHugePage);
  munmap(page, kHugePage);
  return moved;
}

}  // namespace mayfly
