#include "runtimes/onnx/canceller.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mayfly {
namespace {

constexpr std::size_t kStackBytes = 64 * 1024;

void futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

}  // namespace

Canceller::~Canceller() {
  if (!watching_) return;
  stop_ = true;
  auto& cancels = arena_.header().cancels;
  cancels.fetch_add(1);
  futex(cancels, FUTEX_WAKE, INT_MAX);
  pthread_join(thread_, nullptr);
}

bool Canceller::begin(std::uint32_t slot) {
  const auto& cancel = arena_.slot(slot).cancel;
  if (!watching_) return cancel.load(std::memory_order_acquire) == 0;
  const std::lock_guard lock(mutex_);
  current_ = slot;  // before the look: whoever cancels after it finds the slot here
  return cancel.load(std::memory_order_acquire) == 0;
}

bool Canceller::end() {
  if (!watching_) return false;
  const std::lock_guard lock(mutex_);
  current_ = kNone;
  if (!terminated_) return false;
  terminated_ = false;
  static_cast<void>(ort_.check(ort_.api->RunOptionsUnsetTerminate(options_), "cancel_failed", "reset a run").ok());
  return true;
}

void Canceller::watch() {
  if (tried_) return;
  tried_ = true;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  watching_ = pthread_create(&thread_, &attributes, &Canceller::run, this) == 0;
  pthread_attr_destroy(&attributes);
}

void Canceller::look() {
  const std::lock_guard lock(mutex_);
  if (current_ == kNone || terminated_ || arena_.slot(current_).cancel.load(std::memory_order_acquire) == 0) return;
  terminated_ = ort_.check(ort_.api->RunOptionsSetTerminate(options_), "cancel_failed", "end a run").ok();
}

void* Canceller::run(void* self) {
  auto& c = *static_cast<Canceller*>(self);
  auto& cancels = c.arena_.header().cancels;
  while (!c.stop_) {
    const std::uint32_t seen = cancels.load(std::memory_order_acquire);
    c.look();
    if (!c.stop_) futex(cancels, FUTEX_WAIT, seen);  // returns at once if it has moved on
  }
  return nullptr;
}

}  // namespace mayfly
