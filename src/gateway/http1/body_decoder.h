// The body of one request from raw bytes: framing (Content-Length or chunked), then gzip or deflate, then the limit.
// Owner: one connection; no I/O. Fails with payload_too_large, malformed_body, out_of_memory; the rest of the body is
// then unknown and the connection has to be closed.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "gateway/http.h"
#include "gateway/http1/chunked.h"
#include "gateway/wire/inflater.h"

namespace mayfly::http1 {

using wire::Inflater;

class BodyDecoder {
 public:
  void begin(const RequestHead& head, std::uint64_t max_bytes);
  // Next piece. `data` points into `raw` or into the decoder, until the next step. With `data` empty and not done,
  // all of `raw` was taken and more is needed. The bytes of `raw` must stay in place until then.
  Result<BodyPiece> step(std::string_view raw);
  // Raw bytes still to come; nothing for a chunked body that has not ended, and after a failure.
  std::optional<std::uint64_t> raw_remaining() const;

 private:
  Result<BodyPiece> decode(std::string_view raw);
  Result<BodyPiece> next_framed(std::string_view raw);
  Status start_inflater();

  std::uint64_t max_bytes_ = 0;
  std::uint64_t total_ = 0;   // decoded bytes handed out
  std::uint64_t framed_ = 0;  // bytes after framing, before decompression
  std::uint64_t remaining_ = 0;
  bool chunked_body_ = false;
  bool framed_done_ = false;
  bool failed_ = false;
  RequestHead::Encoding encoding_ = RequestHead::Encoding::kIdentity;
  ChunkedDecoder chunked_;
  std::unique_ptr<Inflater> inflater_;
  std::string_view pending_;  // framed bytes that the inflater has not taken
};

}  // namespace mayfly::http1
