#include "gateway/http1/chunked.h"

#include <algorithm>

namespace mayfly::http1 {
namespace {

Error malformed(const char* what) {
  return invalid("malformed_body", "cannot read the chunked body: {}; send chunks as RFC 9112 section 7.1 has them",
                 what);
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; }

}  // namespace

Result<BodyPiece> ChunkedDecoder::decode(std::string_view in) {
  BodyPiece out;
  while (out.consumed < in.size() && state_ != State::kDone) {
    if (state_ == State::kData) {
      const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, in.size() - out.consumed));
      out.data = in.substr(out.consumed, n);
      out.consumed += n;
      remaining_ -= n;
      if (remaining_ == 0) state_ = State::kDataCr;
      return out;
    }
    MAYFLY_TRY(on_byte(in[out.consumed]));
    ++out.consumed;
  }
  out.done = state_ == State::kDone;
  return out;
}

Status ChunkedDecoder::on_byte(char c) {
  switch (state_) {
    case State::kSizeFirst:
    case State::kSize:
    case State::kExtension:
      return on_size_byte(c);
    case State::kSizeLf:
      if (c != '\n') return malformed("a chunk size not ended by CRLF");
      state_ = remaining_ == 0 ? State::kTrailerFirst : State::kData;
      return Ok{};
    case State::kDataCr:
      if (c != '\r') return malformed("a chunk longer than its size");
      state_ = State::kDataLf;
      return Ok{};
    case State::kDataLf:
      if (c != '\n') return malformed("a chunk not ended by CRLF");
      state_ = State::kSizeFirst;
      digits_ = 0;
      return Ok{};
    case State::kTrailerFirst:
    case State::kTrailer:
    case State::kTrailerLf:
    case State::kEndLf:
      return on_trailer_byte(c);
    case State::kData:
    case State::kDone:
      break;
  }
  return malformed("bytes after its end");
}

Status ChunkedDecoder::on_size_byte(char c) {
  if (state_ != State::kExtension) {
    const int v = hex_value(c);
    if (v >= 0) {
      if (++digits_ > 15) return malformed("a chunk size of more than 15 digits");
      remaining_ = remaining_ * 16 + static_cast<std::uint64_t>(v);
      state_ = State::kSize;
      return Ok{};
    }
    if (state_ == State::kSizeFirst) return malformed("a chunk without a size");
  }
  if (c == '\r') {
    state_ = State::kSizeLf;
    return Ok{};
  }
  if (state_ == State::kSize && c != ';') return malformed("a chunk size that is not hexadecimal");
  state_ = State::kExtension;
  if (is_control(c)) return malformed("control characters in a chunk extension");
  if (++extension_bytes_ > kMaxExtraBytes) return malformed("more than 16 KiB of chunk extensions");
  return Ok{};
}

Status ChunkedDecoder::on_trailer_byte(char c) {
  if (state_ == State::kEndLf) {
    if (c != '\n') return malformed("its end is not CRLF");
    state_ = State::kDone;
    return Ok{};
  }
  if (state_ == State::kTrailerLf) {
    if (c != '\n') return malformed("a trailer not ended by CRLF");
    state_ = State::kTrailerFirst;
    return Ok{};
  }
  if (c == '\r') {
    state_ = state_ == State::kTrailerFirst ? State::kEndLf : State::kTrailerLf;
    return Ok{};
  }
  if (is_control(c)) return malformed("control characters in a trailer");
  if (++trailer_bytes_ > kMaxExtraBytes) return malformed("more than 16 KiB of trailers");
  state_ = State::kTrailer;
  return Ok{};
}

}  // namespace mayfly::http1
