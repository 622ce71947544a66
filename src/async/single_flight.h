// One task for all who ask for the same thing at the same time: the first caller's work runs, further ones are handed
// its result. One reactor; not thread-safe. Must outlive its callers' tasks.
#pragma once
#include <string>
#include <unordered_map>
#include <vector>

#include "async/one_shot.h"

namespace mayfly {

template <typename R>
class SingleFlight {
 public:
  // `work()` makes the task; what it refers to must live until the task of run() is done.
  template <typename F>
  Task<R> run(std::string key, F work) {
    auto [at, first] = waiting_.try_emplace(key);
    if (!first) {
      OneShot<R> mine;
      at->second.push_back(&mine);
      co_return co_await mine.wait();
    }
    R got = co_await work();
    const auto node = waiting_.extract(key);
    for (OneShot<R>* w : node.mapped()) w->set(got);
    co_return got;
  }
  bool contains(const std::string& key) const { return waiting_.contains(key); }

 private:
  std::unordered_map<std::string, std::vector<OneShot<R>*>> waiting_;  // what is under way, and who waits for it
};

}  // namespace mayfly
