// A byte queue in one contiguous block: bytes are put in at the tail and taken at the front. Grows with realloc(),
// which moves large blocks by remapping pages, and leaves new space unwritten, so that a large body is touched once.
// Owner: one connection or stream. Memory that runs out ends the process, as operator new would.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace mayfly::wire {

class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)),
        capacity_(std::exchange(o.capacity_, 0)),
        begin_(std::exchange(o.begin_, 0)),
        end_(std::exchange(o.end_, 0)),
        account_(o.account_) {}

  void swap(Buffer& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(capacity_, o.capacity_);
    std::swap(begin_, o.begin_);
    std::swap(end_, o.end_);
    std::swap(account_, o.account_);
  }

  std::string_view view() const { return {data_ + begin_, end_ - begin_}; }
  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  std::size_t capacity() const { return capacity_; }
  std::size_t begin() const { return begin_; }
  // The caller whose budget its memory is in; Core keeps the account.
  std::uint64_t account() const { return account_; }
  void set_account(std::uint64_t caller) { account_ = caller; }
  std::span<char> tail() { return {data_ + end_, capacity_ - end_}; }
  void commit(std::size_t n) { end_ += n; }
  void consume(std::size_t n) { begin_ += n; }
  // Empties the buffer; the next bytes come at `at`, so that what lies before stays.
  void rewind(std::size_t at) { begin_ = end_ = at; }

  // At least n bytes of tail. Moves the bytes to the front first, then the block: views are invalid afterwards.
  void make_room(std::size_t n) {
    if (capacity_ - end_ >= n) return;
    if (begin_ > 0) {
      std::memmove(data_, data_ + begin_, size());
      end_ -= begin_;
      begin_ = 0;
    }
    if (capacity_ - end_ >= n) return;
    void* grown = std::realloc(data_, end_ + n);
    MAYFLY_CHECK(grown != nullptr);
    data_ = static_cast<char*>(grown);
    capacity_ = end_ + n;
  }
  void append(std::string_view bytes) {
    make_room(bytes.size());
    if (!bytes.empty()) std::memcpy(data_ + end_, bytes.data(), bytes.size());
    end_ += bytes.size();
  }
  void free() {
    std::free(data_);
    data_ = nullptr;
    capacity_ = begin_ = end_ = 0;
  }

 private:
  char* data_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t account_ = 0;
};

}  // namespace mayfly::wire
