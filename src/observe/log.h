// JSON lines, one an event, to a descriptor (standard error unless --log-file). Lines are collected and written when 64
// KiB are full, at flush(), and at every line of level info or above that is not a request line. One reactor. Each
// endpoint's latest lines are kept in memory for `mayfly logs`.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/fd.h"

namespace mayfly {

class Log {
 public:
  static constexpr std::size_t kKeptLines = 500;  // of one endpoint
  explicit Log(int fd) : fd_(fd) {}
  ~Log() { flush(); }
  // `json` is a complete object without line end.
  void request(const std::string& endpoint, std::string json);
  void event(const std::string& endpoint, std::string json);
  void flush();
  bool pending() const { return !buffer_.empty(); }
  std::vector<std::string> tail(const std::string& endpoint, std::size_t n) const;
  void forget(const std::string& endpoint) { kept_.erase(endpoint); }
  static std::string timestamp();  // "2026-01-31T12:34:56.789Z"

 private:
  void keep(const std::string& endpoint, std::string json);
  int fd_;
  std::string buffer_;
  std::unordered_map<std::string, std::deque<std::string>> kept_;
};

}  // namespace mayfly
