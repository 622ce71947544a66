#include "observe/log.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>

namespace mayfly {

struct Log::Queue {
  Queue(int descriptor, std::size_t limit) : fd(descriptor), max_bytes(limit) {}
  const int fd;
  const std::size_t max_bytes;
  std::mutex mutex;
  std::condition_variable changed;
  std::string waiting;        // whole lines
  std::size_t in_flight = 0;  // bytes that the thread has taken and not written
  bool closed = false;
  bool ended = false;
};

Log::Log(int fd, std::size_t queue_bytes) : queue_(std::make_shared<Queue>(fd, queue_bytes)) {
  writer_ = std::thread(write_all, queue_);
}

// The writer thread.
void Log::write_all(std::shared_ptr<Queue> queue) {
  std::unique_lock lock(queue->mutex);
  for (;;) {
    queue->changed.wait(lock, [&] { return !queue->waiting.empty() || queue->closed; });
    if (queue->waiting.empty()) break;
    const std::string lines = std::move(queue->waiting);
    queue->waiting.clear();
    queue->in_flight = lines.size();
    lock.unlock();
    std::size_t done = 0;
    while (done < lines.size()) {
      const ssize_t n = write(queue->fd, lines.data() + done, lines.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    lock.lock();
    queue->in_flight = 0;
    queue->changed.notify_all();
  }
  queue->ended = true;
  queue->changed.notify_all();
}

void Log::close(std::chrono::milliseconds limit) {
  if (!writer_.joinable()) return;
  const auto end = std::chrono::steady_clock::now() + limit;
  flush();
  std::unique_lock lock(queue_->mutex);
  queue_->changed.wait_until(lock, end, [&] { return queue_->waiting.empty() && queue_->in_flight == 0; });
  if (dropped_ > 0) {
    lock.unlock();
    flush();
    lock.lock();
  }
  queue_->closed = true;
  queue_->changed.notify_all();
  const bool ended = queue_->changed.wait_until(lock, end, [&] { return queue_->ended; });
  lock.unlock();
  if (ended)
    writer_.join();
  else
    writer_.detach();
}

namespace {

void append_time(std::string& out, const timespec& t) {
  static thread_local time_t last = -1;
  static thread_local char text[32];
  if (t.tv_sec != last) {
    tm parts{};
    gmtime_r(&t.tv_sec, &parts);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    last = t.tv_sec;
  }
  const auto ms = static_cast<unsigned>(t.tv_nsec / 1'000'000);
  const char rest[] = {'.', static_cast<char>('0' + ms / 100), static_cast<char>('0' + ms / 10 % 10),
                       static_cast<char>('0' + ms % 10), 'Z'};
  out.append(text).append(rest, sizeof rest);
}

}  // namespace

std::string Log::timestamp() {
  std::string out;
  append_timestamp(out);
  return out;
}

std::string Log::timestamp(std::uint64_t unix_ms) {
  std::string out;
  append_time(out, {static_cast<time_t>(unix_ms / 1000), static_cast<long>(unix_ms % 1000 * 1'000'000)});
  return out;
}

void Log::append_timestamp(std::string& out) {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  append_time(out, t);
}

void Log::keep(const std::string& endpoint, std::string_view json) {
  auto it = kept_.find(endpoint);
  const bool is_new = it == kept_.end();
  if (is_new) it = kept_.try_emplace(endpoint).first;
  Kept& kept = it->second;
  if (is_new)
    kept.place = written_.insert(written_.end(), &it->first);
  else
    written_.splice(written_.end(), written_, kept.place);
  std::string line;
  if (kept.lines.size() >= kKeptLines) {  // the oldest one's memory is used again
    line = std::move(kept.lines.front());
    kept.lines.pop_front();
  }
  line.assign(json);
  kept.lines.push_back(std::move(line));
  if (kept_.size() > kKeptEndpoints) forget(std::string(*written_.front()));
}

void Log::forget(const std::string& endpoint) {
  auto it = kept_.find(endpoint);
  if (it == kept_.end()) return;
  written_.erase(it->second.place);
  kept_.erase(it);
}

void Log::request(const std::string& endpoint, std::string_view json) {
  if (writes_requests_) {
    buffer_ += json;
    buffer_ += '\n';
  }
  keep(endpoint, json);
  if (buffer_.size() > 65536) flush();
}

void Log::event(const std::string& endpoint, std::string json) {
  buffer_ += json;
  buffer_ += '\n';
  if (!endpoint.empty()) keep(endpoint, json);
  flush();
}

void Log::flush() {
  std::unique_lock lock(queue_->mutex);
  std::size_t used = queue_->waiting.size() + queue_->in_flight;
  // After a gap the queue has to be half empty, so that a slow reader sees few gaps and not one at every line.
  if (dropped_ > 0 && used <= queue_->max_bytes / 2) {
    const std::size_t before = queue_->waiting.size();
    fmt::format_to(std::back_inserter(queue_->waiting),
                   R"({{"time":"{}","event":"log_lines_dropped","count":{}}})"
                   "\n",
                   timestamp(), dropped_);
    used += queue_->waiting.size() - before;
    dropped_ = 0;
  }
  std::size_t taken = 0;
  if (dropped_ == 0) {
    const std::size_t room = queue_->max_bytes - std::min(queue_->max_bytes, used);
    taken = buffer_.size();
    if (taken > room) taken = room == 0 ? 0 : buffer_.rfind('\n', room - 1) + 1;  // npos + 1 is 0
    queue_->waiting.append(buffer_, 0, taken);
  }
  lock.unlock();
  queue_->changed.notify_all();
  dropped_ +=
      static_cast<std::uint64_t>(std::count(buffer_.begin() + static_cast<std::ptrdiff_t>(taken), buffer_.end(), '\n'));
  buffer_.clear();
}

std::vector<std::string> Log::tail(const std::string& endpoint, std::size_t n) const {
  auto it = kept_.find(endpoint);
  if (it == kept_.end()) return {};
  const auto& lines = it->second.lines;
  return {lines.end() - static_cast<std::ptrdiff_t>(std::min(n, lines.size())), lines.end()};
}

}  // namespace mayfly
