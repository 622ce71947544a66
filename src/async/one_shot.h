// A value handed once from one task to another on the same reactor. Not thread-safe. The waiter owns the OneShot.
#pragma once
#include <memory>
#include <optional>
#include <utility>

#include "async/async.h"

namespace mayfly {

template <typename T>
class OneShot {
 public:
  // First call wins; later ones are ignored (an answer may race with a deadline).
  void set(T value) {
    if (value_) return;
    value_.emplace(std::move(value));
    if (waiter_) std::exchange(waiter_, nullptr)->resume();
  }
  bool is_set() const { return value_.has_value(); }
  Task<T> wait() {
    if (!value_) {
      const auto& token = asio::use_awaitable_t<Executor>{};
      co_await asio::async_initiate<const asio::use_awaitable_t<Executor>&, void()>(
          [](auto handler, OneShot* self) {
            self->waiter_ = std::make_unique<Waiter<decltype(handler)>>(std::move(handler));
          },
          token, this);
    }
    co_return std::move(*value_);
  }

 private:
  struct WaiterBase {
    virtual ~WaiterBase() = default;
    virtual void resume() = 0;
  };
  template <typename H>
  struct Waiter final : WaiterBase {
    explicit Waiter(H h) : handler(std::move(h)) {}
    void resume() override {  // posted, so that set() never runs the waiter's code inside the caller's loop
      auto executor = asio::get_associated_executor(handler);
      asio::post(executor, std::move(handler));
    }
    H handler;
  };
  std::optional<T> value_;
  std::unique_ptr<WaiterBase> waiter_;
};

}  // namespace mayfly
