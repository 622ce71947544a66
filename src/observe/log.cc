#include "observe/log.h"

#include <fmt/format.h>
#include <time.h>

#include <unistd.h>
#include <cerrno>

namespace mayfly {

std::string Log::timestamp() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  static thread_local time_t last = -1;
  static thread_local char text[32];
  if (t.tv_sec != last) {
    tm parts{};
    gmtime_r(&t.tv_sec, &parts);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    last = t.tv_sec;
  }
  return fmt::format("{}.{:03}Z", text, t.tv_nsec / 1'000'000);
}

void Log::keep(const std::string& endpoint, std::string json) {
  auto& lines = kept_[endpoint];
  if (lines.size() >= kKeptLines) lines.pop_front();
  lines.push_back(std::move(json));
}

void Log::request(const std::string& endpoint, std::string json) {
  buffer_ += json;
  buffer_ += '\n';
  keep(endpoint, std::move(json));
  if (buffer_.size() > 65536) flush();
}

void Log::event(const std::string& endpoint, std::string json) {
  buffer_ += json;
  buffer_ += '\n';
  if (!endpoint.empty()) keep(endpoint, std::move(json));
  flush();
}

void Log::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;  // a full or broken log must not stop the service
    done += static_cast<std::size_t>(n);
  }
  buffer_.clear();
}

std::vector<std::string> Log::tail(const std::string& endpoint, std::size_t n) const {
  auto it = kept_.find(endpoint);
  if (it == kept_.end()) return {};
  const auto& lines = it->second;
  return {lines.end() - static_cast<std::ptrdiff_t>(std::min(n, lines.size())), lines.end()};
}

}  // namespace mayfly
