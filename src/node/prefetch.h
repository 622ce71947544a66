// Reads an artefact's working set (what the first run of an instance touches, recorded at deploy) into the page cache
// when an instance starts and the file is not there: several ranges at once, while the sandbox is narrowed and the
// session made, in place of one page fault after the other. One for each version, shared with the threads that read.
//
// begin() is for the reactor: it looks at a few bytes without waiting (preadv2, RWF_NOWAIT), and only where one of them
// is not in memory starts threads of its own; they live as long as that reading takes. Never fails: a start without it
// is slower, not wrong.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace mayfly {

class Prefetch : public std::enable_shared_from_this<Prefetch> {
 public:
  using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;  // offset, bytes
  static constexpr std::size_t kProbes = 16;
  static constexpr std::size_t kThreads = 4;
  static constexpr std::uint64_t kChunkBytes = 2ULL << 20;

  explicit Prefetch(const Ranges& ranges);
  // True: something was not in memory, and is being read.
  bool begin(int artefact_fd);
  bool busy() const { return busy_.load(std::memory_order_acquire); }

 private:
  bool cached(int fd) const;
  void read_all(int fd);

  Ranges chunks_;
  std::vector<std::uint64_t> probes_;  // offsets
  std::atomic<bool> busy_{false};
};

}  // namespace mayfly
