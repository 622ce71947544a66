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

Status Core::grow(Buffer& body, std::uint64_t capacity) {
  const std::uint64_t had = body.capacity();
  if (capacity <= had) return Ok{};
  const std::uint64_t limit = limits.max_buffered_bytes;
  if (capacity - had > limit - std::min(limit, buffered_bytes)) {
    return make_error(Code::kUnavailable, "body_budget_exceeded",
                      "the request bodies that arrive now fill the server's {} bytes for them; try again later", limit);
  }
  body.make_room(static_cast<std::size_t>(capacity) - body.size());
  buffered_bytes += body.capacity() - had;
  return Ok{};
}

void Core::free(Buffer& body) {
  buffered_bytes -= body.capacity();
  body.free();
}

}  // namespace mayfly::wire
