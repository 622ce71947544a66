#include "async/async.h"

namespace mayfly {

Task<bool> Event::wait_until(TimePoint deadline) {
  timer_.expires_at(deadline);
  auto [ec] = co_await timer_.async_wait(use_result);
  co_return ec == asio::error::operation_aborted;
}

}  // namespace mayfly
