// Touches, on a thread of its own while the session is being made, the memory that the first run is known to use: the
// heap for the runtime's work space and the pages of the artefact. A page that is touched one by one in the run costs a
// fault of its own, 2 to 3 microseconds in a virtual machine; many at once cost a tenth, and not in the run. The work
// space gets huge pages where the machine gives them on request.
//
// Only a hint: what fails is left to the run. The thread ends when it is through; the destructor waits for it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>

namespace mayfly {

class Prefault {
 public:
  static constexpr std::size_t kWorthBytes = 2 << 20;     // less than that is not worth a thread
  static constexpr std::size_t kMaxHeapBytes = 31 << 20;  // larger blocks than that don't come from the heap
  // `heap_bytes`: what session and runs take, as measured at deploy. The heap is grown here, in the caller's thread.
  Prefault(std::span<const std::byte> artefact, std::uint64_t heap_bytes);
  Prefault(const Prefault&) = delete;
  Prefault& operator=(const Prefault&) = delete;
  ~Prefault();

 private:
  std::thread thread_;
};

}  // namespace mayfly
