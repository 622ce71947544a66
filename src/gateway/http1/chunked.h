// Incremental decoder of the chunked transfer coding (RFC 9112 section 7.1), zero copy. Owner: one connection; no I/O.
// Limits: 15 hex digits a chunk size, 16 KiB of chunk extensions and 16 KiB of trailers a body; both are dropped.
// Fails with malformed_body; the connection can't be used after that.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "gateway/wire/inflater.h"

namespace mayfly::http1 {

using wire::BodyPiece;

class ChunkedDecoder {
 public:
  static constexpr std::size_t kMaxExtraBytes = 16 * 1024;

  void reset() { *this = ChunkedDecoder(); }
  // Stops at the first piece of data (a view into `in`), at the end of the body, or at the end of `in`.
  Result<BodyPiece> decode(std::string_view in);

 private:
  enum class State : std::uint8_t {
    kSizeFirst,
    kSize,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailerFirst,
    kTrailer,
    kTrailerLf,
    kEndLf,
    kDone
  };
  Status on_byte(char c);
  Status on_size_byte(char c);
  Status on_trailer_byte(char c);

  State state_ = State::kSizeFirst;
  std::uint64_t remaining_ = 0;
  unsigned digits_ = 0;
  std::size_t extension_bytes_ = 0;
  std::size_t trailer_bytes_ = 0;
};

}  // namespace mayfly::http1
