// Streaming gzip and zlib ("deflate") decompression in constant memory: 32 KiB of window and 16 KiB of output, however
// large the output is; the caller bounds the sum. Owner: one connection; no I/O. Fails with malformed_body,
// or out_of_memory when zlib gets none.
#pragma once
#include <zlib.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string_view>

#include "base/result.h"

namespace mayfly::wire {

// One step of decoding: bytes taken from the input and what came out. `data` empty and not done: give more input.
struct BodyPiece {
  std::size_t consumed = 0;
  std::string_view data;
  bool done = false;
};

class Inflater {
 public:
  enum class Format : std::uint8_t { kGzip, kZlib };
  static Result<std::unique_ptr<Inflater>> create(Format format);
  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // `data` is valid until the next call. Call again, even with nothing, while has_more().
  Result<BodyPiece> inflate(std::string_view in);
  bool has_more() const { return has_more_; }  // output that did not fit
  bool finished() const { return finished_; }

 private:
  explicit Inflater(Format format) : format_(format) {}
  const Format format_;
  z_stream stream_{};
  bool initialized_ = false;
  bool has_more_ = false;
  bool finished_ = false;
  std::array<char, 16 * 1024> out_;
};

}  // namespace mayfly::wire
