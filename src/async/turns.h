// Turns by name: who has a name's turn works on what it names; the others wait, and get it in the order in which they
// came. One reactor; not thread-safe. A Turn goes back when it is destroyed; its Turns must outlive it.
#pragma once
#include <deque>
#include <string>
#include <unordered_map>
#include <utility>

#include "async/one_shot.h"
#include "base/result.h"

namespace mayfly {

class Turns {
 public:
  class Turn {
   public:
    Turn(Turns* owner, std::string name) : owner_(owner), name_(std::move(name)) {}
    Turn(Turn&& o) noexcept : owner_(std::exchange(o.owner_, nullptr)), name_(std::move(o.name_)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() { give_back(); }
    void give_back() {
      if (owner_ != nullptr) std::exchange(owner_, nullptr)->pass_on(name_);
    }

   private:
    Turns* owner_;
    std::string name_;
  };

  Task<Turn> take(std::string name) {
    auto [at, was_free] = waiting_.try_emplace(name);
    if (!was_free) {
      OneShot<Ok> mine;
      at->second.push_back(&mine);
      co_await mine.wait();
    }
    co_return Turn(this, std::move(name));
  }
  std::size_t taken() const { return waiting_.size(); }

 private:
  void pass_on(const std::string& name) {
    auto at = waiting_.find(name);
    if (at->second.empty()) {
      waiting_.erase(at);
      return;
    }
    OneShot<Ok>* next = at->second.front();
    at->second.pop_front();
    next->set(Ok{});
  }
  std::unordered_map<std::string, std::deque<OneShot<Ok>*>> waiting_;  // the names that are taken, and who waits
};

}  // namespace mayfly
