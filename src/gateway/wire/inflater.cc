#include "gateway/wire/inflater.h"

#include <algorithm>
#include <limits>

namespace mayfly::wire {
namespace {
Error malformed(const char* what) {
  return invalid("malformed_body", "cannot decompress the body: {}; check Content-Encoding and the data", what);
}
}  // namespace

Result<std::unique_ptr<Inflater>> Inflater::create(Format format) {
  std::unique_ptr<Inflater> self(new Inflater(format));
  const int window_bits = format == Format::kGzip ? 15 + 16 : 15;
  if (inflateInit2(&self->stream_, window_bits) != Z_OK) {
    return Error{Code::kResourceExhausted, "out_of_memory",
                 "cannot decompress the body: no memory for zlib's window; try again later or send it uncompressed"};
  }
  self->initialized_ = true;
  return self;
}

Inflater::~Inflater() {
  if (initialized_) inflateEnd(&stream_);
}

Result<BodyPiece> Inflater::inflate(std::string_view in) {
  if (finished_) {
    if (in.empty()) return BodyPiece{0, {}, true};
    // gzip allows several members one after the other (RFC 1952 section 2.2).
    if (format_ != Format::kGzip || inflateReset(&stream_) != Z_OK)
      return malformed("bytes after the end of the stream");
    finished_ = false;
  }
  const std::size_t take = std::min<std::size_t>(in.size(), std::numeric_limits<uInt>::max());
  stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));  // zlib does not write to it
  stream_.avail_in = static_cast<uInt>(take);
  stream_.next_out = reinterpret_cast<Bytef*>(out_.data());
  stream_.avail_out = static_cast<uInt>(out_.size());
  const int rc = ::inflate(&stream_, Z_NO_FLUSH);
  if (rc == Z_MEM_ERROR) {
    return Error{Code::kResourceExhausted, "out_of_memory",
                 "cannot decompress the body: no memory for zlib; try again later"};
  }
  if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) {
    return malformed(stream_.msg != nullptr ? stream_.msg : "the data is damaged");
  }
  finished_ = rc == Z_STREAM_END;
  has_more_ = !finished_ && stream_.avail_out == 0;
  return BodyPiece{take - stream_.avail_in, std::string_view(out_.data(), out_.size() - stream_.avail_out), finished_};
}

}  // namespace mayfly::wire
