// The event loop: the only place that includes Asio. One reactor thread runs everything that is not blocking;
// BlockingPool runs files, SQL and hashing.
// Coroutine rules (see docs/adr/0002): parameters are values, pointers or references to what outlives the task; no
// capturing lambda is a coroutine; name a closure before the co_await that takes it.
#pragma once
#include <boost/asio.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/result.h"

namespace mayfly {

namespace asio = boost::asio;
template <typename T>
using Task = asio::awaitable<T, asio::io_context::executor_type>;
using Executor = asio::io_context::executor_type;
using TimePoint = std::chrono::steady_clock::time_point;
using Timer =
    asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, Executor>;

// Completion token that hands errors back as a value instead of throwing:
//   auto [ec, n] = co_await socket.async_read_some(buffer, use_result);
inline constexpr asio::as_tuple_t<asio::use_awaitable_t<Executor>> use_result{};

inline std::uint64_t unix_ms() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
}
inline std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}
inline TimePoint to_time_point(std::uint64_t ns) { return TimePoint(std::chrono::nanoseconds(ns)); }
inline std::uint64_t to_ns(TimePoint t) {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(t.time_since_epoch()).count());
}

// Something to wait for on one reactor, with a deadline. notify() wakes every waiter; not a latch: check the condition.
class Event {
 public:
  explicit Event(Executor ex) : timer_(ex, TimePoint::max()) {}
  void notify() { timer_.cancel(); }
  // False if the deadline passed before a notify().
  Task<bool> wait_until(TimePoint deadline);

 private:
  Timer timer_;  // used only by a single waiter at a time
};

// Threads for blocking work. run() resumes on the reactor with what `f` returned.
class BlockingPool {
 public:
  explicit BlockingPool(std::size_t threads) : pool_(threads) {}
  ~BlockingPool() {
    pool_.stop();
    pool_.join();
  }
  template <typename F>
  Task<std::invoke_result_t<F>> run(F f) {
    using R = std::invoke_result_t<F>;
    auto ex = co_await asio::this_coro::executor;
    std::optional<R> out;
    Timer done(ex, TimePoint::max());
    std::atomic<bool> finished{false};
    asio::post(pool_, [&] {
      out.emplace(f());
      asio::post(ex, [&] {
        finished = true;
        done.cancel();
      });
    });
    while (!finished) {
      co_await done.async_wait(use_result);
      if (!finished) done.expires_at(TimePoint::max());
    }
    co_return std::move(*out);
  }

 private:
  asio::thread_pool pool_;
};

}  // namespace mayfly
