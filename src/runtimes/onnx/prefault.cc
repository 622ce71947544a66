#include "runtimes/onnx/prefault.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <system_error>

#include "base/huge_pages.h"

namespace mayfly {
namespace {

constexpr std::size_t kPage = 4096;
// The kernel holds the lock of the address space over a piece; the session's own mappings wait for it.
constexpr std::size_t kPiece = 1 << 20;
constexpr std::size_t kFaultAround = 64 << 10;  // a fault maps so much of a file that is in memory, or more
constexpr int kLargeBlock = 32 << 20;           // smaller ones lie in the heap, where they are prepared
constexpr int kNeverTrim = 1 << 30;

std::span<std::byte> aligned(std::span<std::byte> range, std::size_t to) {
  const auto begin = reinterpret_cast<std::uintptr_t>(range.data());
  const std::uintptr_t from = (begin + to - 1) / to * to, end = (begin + range.size()) / to * to;
  return from < end ? range.subspan(from - begin, end - from) : std::span<std::byte>();
}

// Calls madvise piece by piece; false once one failed.
bool advise(std::span<std::byte> range, std::size_t piece, int advice) {
  for (; !range.empty(); range = range.subspan(std::min(piece, range.size()))) {
    if (madvise(range.data(), std::min(piece, range.size()), advice) != 0) return false;
  }
  return true;
}

// Memory at the top of the heap that the allocator hands out next. Kept by the allocator: it is never given back.
std::span<std::byte> grow_heap(std::size_t bytes) {
  mallopt(M_MMAP_THRESHOLD, kLargeBlock);
  mallopt(M_TRIM_THRESHOLD, kNeverTrim);
  void* block = std::malloc(bytes);
  if (block == nullptr) return {};
  const std::size_t got = malloc_usable_size(block);
  std::free(block);
  return {static_cast<std::byte*>(block), got};
}

// One fault for each piece, which maps the pages around. MADV_POPULATE_READ looks at each page by itself: 3.7 ms for
// 90 MB instead of 0.5. Of the last page it tells whether the file still reaches so far; a read behind its end would be
// SIGBUS.
void read_each_piece(std::span<std::byte> range) {
  if (range.empty()) return;
  const std::size_t last = (range.size() - 1) / kPage * kPage;
  if (madvise(&range[last], 1, MADV_POPULATE_READ) != 0) return;
  for (std::size_t at = 0; at < range.size(); at += kFaultAround)
    static_cast<void>(*const_cast<const volatile std::byte*>(&range[at]));
}

void touch(std::span<std::byte> artefact, std::span<std::byte> heap) {
  if (const auto huge = aligned(heap, kHugePage); !huge.empty()) madvise(huge.data(), huge.size(), MADV_HUGEPAGE);
  advise(aligned(heap, kPage), kPiece, MADV_POPULATE_WRITE);
  read_each_piece(artefact);
}

}  // namespace

Prefault::Prefault(std::span<const std::byte> artefact, std::uint64_t heap_bytes) {
  heap_bytes = std::min<std::uint64_t>(heap_bytes, kMaxHeapBytes);
  if (artefact.size() + heap_bytes < kWorthBytes) return;
  const auto heap = heap_bytes >= kWorthBytes ? grow_heap(heap_bytes) : std::span<std::byte>();
  // The pages are mapped for reading only; madvise takes a pointer that is not const.
  const std::span<std::byte> pages(const_cast<std::byte*>(artefact.data()), artefact.size());
  try {
    thread_ = std::thread(touch, pages, heap);
  } catch (const std::system_error&) {
    // No thread left: each page has its fault.
  }
}

Prefault::~Prefault() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace mayfly
