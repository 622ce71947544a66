#include "runtimes/zygote/huge_text.h"

#include <link.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "base/huge_pages.h"

namespace mayfly {
namespace {

struct Range {
  std::uintptr_t begin = 0, end = 0;
};

struct Search {
  const std::string& path;
  std::vector<Range> code;  // whole huge pages of it
};

int add_code(dl_phdr_info* object, std::size_t, void* search_ptr) {
  auto& search = *static_cast<Search*>(search_ptr);
  if (search.path != object->dlpi_name) return 0;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || segment.p_flags != (PF_R | PF_X)) continue;
    const std::uintptr_t from = object->dlpi_addr + segment.p_vaddr, to = from + segment.p_memsz;
    const Range whole{(from + kHugePage - 1) / kHugePage * kHugePage, to / kHugePage * kHugePage};
    if (whole.begin < whole.end) search.code.push_back(whole);
  }
  return 1;
}

void* at(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

// An aligned copy that may be run, or null. On small pages it would cost each clone more than it saves.
char* copy_of(const Range& code) {
  const std::size_t bytes = code.end - code.begin;
  char* const copy = map_aligned(bytes);
  if (copy == nullptr) return nullptr;
  madvise(copy, bytes, MADV_HUGEPAGE);
  std::memcpy(copy, at(code.begin), bytes);
  if (move_to_huge_pages(copy, bytes) && mprotect(copy, bytes, PROT_READ | PROT_EXEC) == 0) return copy;
  munmap(copy, bytes);
  return nullptr;
}

}  // namespace

bool put_code_on_huge_pages(const std::string& library_path) {
  Search search{library_path, {}};
  dl_iterate_phdr(add_code, &search);
  bool all = !search.code.empty();
  for (const Range& code : search.code) {
    const std::size_t bytes = code.end - code.begin;
    char* const copy = copy_of(code);
    if (copy == nullptr || mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at(code.begin)) == MAP_FAILED)
      all = false;
  }
  return all;
}

}  // namespace mayfly
