#include "gateway/http1/body_decoder.h"

#include <algorithm>

#include "gateway/wire/rules.h"

namespace mayfly::http1 {

using wire::kCompressionSlackBytes;
using wire::too_large;

void BodyDecoder::begin(const RequestHead& head, std::uint64_t max_bytes) {
  max_bytes_ = max_bytes;
  total_ = framed_ = 0;
  failed_ = false;
  remaining_ = head.content_length.value_or(0);
  chunked_body_ = head.chunked;
  framed_done_ = !head.chunked && remaining_ == 0;
  encoding_ = head.encoding;
  chunked_.reset();
  inflater_.reset();
  pending_ = {};
}

std::optional<std::uint64_t> BodyDecoder::raw_remaining() const {
  if (failed_) return std::nullopt;
  if (framed_done_) return 0;
  if (chunked_body_) return std::nullopt;
  return remaining_;
}

Status BodyDecoder::start_inflater() {
  auto created =
      Inflater::create(encoding_ == RequestHead::Encoding::kGzip ? Inflater::Format::kGzip : Inflater::Format::kZlib);
  if (!created.ok()) return std::move(created.error());
  inflater_ = std::move(created).value();
  return Ok{};
}

Result<BodyPiece> BodyDecoder::next_framed(std::string_view raw) {
  BodyPiece out;
  if (chunked_body_) {
    auto piece = chunked_.decode(raw);
    if (!piece.ok()) return piece;
    out = *piece;
  } else {
    out.consumed = static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, raw.size()));
    out.data = raw.substr(0, out.consumed);
    remaining_ -= out.consumed;
    out.done = remaining_ == 0;
  }
  framed_done_ = out.done;
  framed_ += out.data.size();
  const bool identity = encoding_ == RequestHead::Encoding::kIdentity;
  if (framed_ > max_bytes_ + (identity ? 0 : kCompressionSlackBytes)) return too_large(max_bytes_);
  return out;
}

Result<BodyPiece> BodyDecoder::step(std::string_view raw) {
  // After a failure, what was taken of the input is unknown: going on could find a request inside a body.
  if (failed_) return invalid("malformed_body", "cannot read on in a body that failed before; send it again");
  auto piece = decode(raw);
  failed_ = !piece.ok();
  return piece;
}

Result<BodyPiece> BodyDecoder::decode(std::string_view raw) {
  BodyPiece out;
  for (;;) {
    if (inflater_ && (!pending_.empty() || inflater_->has_more())) {
      auto piece = inflater_->inflate(pending_);
      if (!piece.ok()) return piece;
      pending_.remove_prefix(piece->consumed);
      total_ += piece->data.size();
      if (total_ > max_bytes_) return too_large(max_bytes_);
      out.data = piece->data;
      if (!out.data.empty()) return out;
      continue;
    }
    if (framed_done_) {
      if (inflater_ && !inflater_->finished()) {
        return invalid("malformed_body",
                       "cannot decompress the body: it ends after {} bytes, within the stream; send all of it",
                       framed_);
      }
      out.done = true;
      return out;
    }
    if (out.consumed == raw.size()) return out;
    auto framed = next_framed(raw.substr(out.consumed));
    if (!framed.ok()) return framed;
    out.consumed += framed->consumed;
    if (framed->data.empty()) continue;
    if (encoding_ == RequestHead::Encoding::kIdentity) {
      out.data = framed->data;
      return out;
    }
    if (!inflater_) MAYFLY_TRY(start_inflater());
    pending_ = framed->data;
  }
}

}  // namespace mayfly::http1
