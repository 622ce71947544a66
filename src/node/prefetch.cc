#include "node/prefetch.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <thread>

namespace mayfly {

Prefetch::Prefetch(const Ranges& ranges) {
  for (const auto& [offset, bytes] : ranges) {
    for (std::uint64_t at = 0; at < bytes; at += kChunkBytes)
      chunks_.emplace_back(offset + at, std::min(kChunkBytes, bytes - at));
  }
  const std::size_t step = std::max<std::size_t>(1, chunks_.size() / kProbes);
  for (std::size_t i = 0; i < chunks_.size() && probes_.size() < kProbes; i += step)
    probes_.push_back(chunks_[i].first + chunks_[i].second / 2);
}

// Where the file system can't tell, it counts as cached.
bool Prefetch::cached(int fd) const {
  return std::none_of(probes_.begin(), probes_.end(), [fd](std::uint64_t offset) {
    char byte = 0;
    const iovec one{&byte, 1};
    return preadv2(fd, &one, 1, static_cast<off_t>(offset), RWF_NOWAIT) < 0 && errno == EAGAIN;
  });
}

bool Prefetch::begin(int artefact_fd) {
  if (busy() || cached(artefact_fd)) return false;
  Fd fd(fcntl(artefact_fd, F_DUPFD_CLOEXEC, 0));
  if (!fd.valid() || busy_.exchange(true, std::memory_order_acq_rel)) return false;
  try {
    std::thread([self = shared_from_this(), fd = std::move(fd)] {
      self->read_all(fd.get());
      self->busy_.store(false, std::memory_order_release);
    }).detach();
  } catch (const std::exception&) {  // no thread to be had
    busy_.store(false, std::memory_order_release);
    return false;
  }
  return true;
}

void Prefetch::read_all(int fd) {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = 0; (i = next.fetch_add(1, std::memory_order_relaxed)) < chunks_.size();)
      static_cast<void>(readahead(fd, static_cast<off_t>(chunks_[i].first), chunks_[i].second));
  };
  std::vector<std::jthread> helpers;
  try {
    while (helpers.size() + 1 < std::min(kThreads, chunks_.size())) helpers.emplace_back(work);
  } catch (const std::exception&) {  // fewer, then
  }
  work();
}

}  // namespace mayfly
