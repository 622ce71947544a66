#include "gateway/wire/core.h"

#include <algorithm>
#include <ctime>

namespace mayfly::wire {

void Core::tick() {
  coarse_now_ns = now_ns();
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  date = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday, kMonths[utc.tm_mon],
                     utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
  date_line = fmt::format("Date: {}\r\n", date);
}

Status Core::grow(Buffer& body, std::uint64_t capacity, std::uint64_t caller) {
  const std::uint64_t had = body.capacity(), moved = body.account() == caller ? 0 : had;
  const std::uint64_t more = capacity > had ? capacity - had : 0;
  if (more == 0 && moved == 0) return Ok{};
  const std::uint64_t limit = limits.max_buffered_bytes;
  if (more > limit - std::min(limit, buffered_bytes)) {
    return make_error(Code::kUnavailable, "body_budget_exceeded",
                      "the request bodies that arrive now fill the server's {} bytes for them; try again later", limit);
  }
  const auto holds = held_.find(caller);
  if ((holds == held_.end() ? 0 : holds->second) + moved + more > limit / 2) {
    Error e = make_error(Code::kResourceExhausted, "caller_budget_exceeded",
                         "the request bodies that this caller sends now would take more than {} bytes, half of the "
                         "server's for all; send fewer or smaller ones at once",
                         limit / 2);
    e.retry_after_s = 1;
    return e;
  }
  if (more > 0) body.make_room(static_cast<std::size_t>(capacity) - body.size());
  if (moved > 0) charge(body.account(), 0, moved);
  body.set_account(caller);
  charge(caller, moved + body.capacity() - had, 0);
  buffered_bytes += body.capacity() - had;
  return Ok{};
}

void Core::charge(std::uint64_t caller, std::uint64_t more, std::uint64_t less) {
  const auto at = held_.try_emplace(caller).first;
  at->second += more - less;
  if (at->second == 0) held_.erase(at);
}

void Core::free(Buffer& body) {
  if (body.capacity() > 0) charge(body.account(), 0, body.capacity());
  buffered_bytes -= body.capacity();
  body.free();
}

}  // namespace mayfly::wire
