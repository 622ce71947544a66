// JSON lines, one an event, to a descriptor (standard error unless --log-file). Lines are collected and handed to a
// writer thread when 64 KiB are full, at flush(), and at every line of level info or above that is not a request line.
// Nothing here waits for the descriptor but close(): when it takes no more and the queue is full (4 MiB), lines are
// dropped, counted, and the count is written in their place, as {"event":"log_lines_dropped","count":N}. A write that
// fails loses its lines uncounted: a broken log must not stop the service.
//
// Owner: the server; all members on one reactor, the writer thread sees the queue alone. Each endpoint's latest lines
// are kept in memory for `mayfly logs`, of the 1,000 endpoints that were written to last: lines may come for one that
// is deleted already.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/fd.h"

namespace mayfly {

class Log {
 public:
  static constexpr std::size_t kKeptLines = 500;  // of one endpoint
  static constexpr std::size_t kKeptEndpoints = 1000;
  static constexpr std::size_t kQueueBytes = 4 << 20;  // waiting for the descriptor
  explicit Log(int fd, std::size_t queue_bytes = kQueueBytes);
  ~Log() { close(); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  // `json` is a complete object without line end.
  void request(const std::string& endpoint, std::string_view json);
  void event(const std::string& endpoint, std::string json);
  // Whether request lines go to the descriptor; `mayfly logs` shows them either way.
  void write_requests(bool on) { writes_requests_ = on; }
  bool writes_requests() const { return writes_requests_; }
  void flush();  // hands to the writer
  bool pending() const { return !buffer_.empty() || dropped_ > 0; }
  // Hands over what is left and waits until it is written, for so long at most. Nothing is written after it.
  void close(std::chrono::milliseconds limit = std::chrono::seconds(1));
  std::vector<std::string> tail(const std::string& endpoint, std::size_t n) const;
  void forget(const std::string& endpoint);
  static void append_timestamp(std::string& out);
  static std::string timestamp();  // "2026-01-31T12:34:56.789Z"
  static std::string timestamp(std::uint64_t unix_ms);

 private:
  struct Queue;
  struct Kept {
    std::deque<std::string> lines;
    std::list<const std::string*>::iterator place;  // in written_
  };
  static void write_all(std::shared_ptr<Queue> queue);
  void keep(const std::string& endpoint, std::string_view json);

  bool writes_requests_ = true;
  std::string buffer_;
  std::uint64_t dropped_ = 0;  // lines since the last that was handed over
  // Shared with the thread, which a blocked write may keep beyond the Log.
  std::shared_ptr<Queue> queue_;
  std::thread writer_;
  std::unordered_map<std::string, Kept> kept_;
  std::list<const std::string*> written_;  // keys of kept_; the last was written to last
};

}  // namespace mayfly
