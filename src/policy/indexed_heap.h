// A binary heap of pointers in which each element knows its place, so that any element is removed or moved in O(log n).
// Intrusive: the element holds its place in the member that `Place` names (kNotInHeap while it is in no heap). The heap
// owns nothing; it allocates only when it grows beyond its largest size so far.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace mayfly::policy {

inline constexpr std::uint32_t kNotInHeap = 0xFFFFFFFF;

// Before{}(a, b): a comes out before b. A strict order without ties makes the heap's order a function of its content.
template <typename T, std::uint32_t T::* Place, typename Before>
class IndexedHeap {
 public:
  bool empty() const { return items_.empty(); }
  std::size_t size() const { return items_.size(); }
  T& top() const { return *items_.front(); }

  void push(T& item) {
    items_.push_back(&item);
    item.*Place = static_cast<std::uint32_t>(items_.size() - 1);
    rise(item.*Place);
  }
  void remove(T& item) {
    const std::uint32_t at = item.*Place;
    T* last = items_.back();
    items_.pop_back();
    item.*Place = kNotInHeap;
    if (last == &item) return;
    put(at, last);
    moved(*last);
  }
  // Calls enter(item), parents first; below an item for which it says false nothing is looked at.
  template <typename Enter>
  void visit(Enter&& enter, std::size_t at = 0) const {
    if (at >= items_.size() || !enter(*items_[at])) return;
    visit(enter, 2 * at + 1);
    visit(enter, 2 * at + 2);
  }
  // The order of `item` among the others may have changed.
  void moved(T& item) {
    rise(item.*Place);
    sink(item.*Place);
  }

 private:
  void put(std::uint32_t at, T* item) {
    items_[at] = item;
    item->*Place = at;
  }
  void rise(std::uint32_t at) {
    T* item = items_[at];
    while (at > 0) {
      const std::uint32_t parent = (at - 1) / 2;
      if (!Before{}(*item, *items_[parent])) break;
      put(at, items_[parent]);
      at = parent;
    }
    put(at, item);
  }
  void sink(std::uint32_t at) {
    T* item = items_[at];
    for (;;) {
      std::size_t child = 2 * std::size_t{at} + 1;
      if (child >= items_.size()) break;
      if (child + 1 < items_.size() && Before{}(*items_[child + 1], *items_[child])) ++child;
      if (!Before{}(*items_[child], *item)) break;
      put(at, items_[child]);
      at = static_cast<std::uint32_t>(child);
    }
    put(at, item);
  }
  std::vector<T*> items_;
};

}  // namespace mayfly::policy
