// Tells whoever works for a caller that the caller has gone. One reactor; not thread-safe. Owner: the transport, one
// for each request, longer than its handler runs. Whoever waits for something listens meanwhile (CancelScope).
#pragma once
#include <utility>

namespace mayfly {

class CancelSignal {
 public:
  using Listener = void (*)(void*);
  bool fired() const { return fired_; }
  void fire() {
    fired_ = true;
    if (listener_ != nullptr) std::exchange(listener_, nullptr)(argument_);
  }
  void reset() {
    fired_ = false;
    listener_ = nullptr;
  }

 private:
  friend class CancelScope;
  bool fired_ = false;
  Listener listener_ = nullptr;  // one at a time: a request waits for one thing at once
  void* argument_ = nullptr;
};

// Has `listener(argument)` called when the signal fires, at most once, while the scope lives. A signal that has fired
// already is not told again: ask fired() first. `signal` may be null.
class CancelScope {
 public:
  CancelScope(CancelSignal* signal, CancelSignal::Listener listener, void* argument) : signal_(signal) {
    if (signal_ == nullptr) return;
    signal_->listener_ = listener;
    signal_->argument_ = argument;
  }
  ~CancelScope() {
    if (signal_ != nullptr) signal_->listener_ = nullptr;
  }
  CancelScope(const CancelScope&) = delete;
  CancelScope& operator=(const CancelScope&) = delete;

 private:
  CancelSignal* signal_;
};

}  // namespace mayfly
