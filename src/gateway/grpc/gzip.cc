#include "gateway/grpc/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

namespace mayfly::grpc {
namespace {

constexpr int kGzipWindow = 15 + 16;
constexpr std::uint64_t kFirstBytes = 64 * 1024;

struct Inflate {
  z_stream stream{};
  bool ready = inflateInit2(&stream, kGzipWindow) == Z_OK;
  ~Inflate() {
    if (ready) inflateEnd(&stream);
  }
};

Error out_of_memory() {
  return make_error(Code::kResourceExhausted, "out_of_memory",
                    "cannot decompress the message: no memory for zlib; try again later or send it uncompressed");
}

Error too_large(std::uint64_t max_bytes) {
  return make_error(Code::kResourceExhausted, "payload_too_large",
                    "the message is larger than the limit of {} bytes when decompressed; send less at once", max_bytes);
}

Bytef* bytes(const char* p) { return reinterpret_cast<Bytef*>(const_cast<char*>(p)); }  // zlib does not write to it

uInt at_once(std::size_t n) { return static_cast<uInt>(std::min<std::size_t>(n, std::numeric_limits<uInt>::max())); }

}  // namespace

Status gunzip(std::string_view in, std::uint64_t max_bytes, std::string& out) {
  Inflate z;
  if (!z.ready) return out_of_memory();
  out.clear();
  std::size_t used = 0;
  z.stream.next_in = bytes(in.data());
  z.stream.avail_in = at_once(in.size());
  for (;;) {
    if (used == out.size()) {
      if (used > max_bytes) return too_large(max_bytes);
      // One byte more than is allowed tells a message that ends there from one that goes on.
      out.resize(std::min<std::uint64_t>(max_bytes + 1, std::max<std::uint64_t>(kFirstBytes, used * 2)));
    }
    z.stream.next_out = bytes(out.data() + used);
    z.stream.avail_out = at_once(out.size() - used);
    const int rc = inflate(&z.stream, Z_NO_FLUSH);
    used = static_cast<std::size_t>(z.stream.next_out - bytes(out.data()));
    if (rc == Z_MEM_ERROR) return out_of_memory();
    if (rc == Z_STREAM_END && z.stream.avail_in == 0) break;
    // gzip allows several members one after the other (RFC 1952 section 2.2).
    const bool more = rc == Z_STREAM_END ? inflateReset(&z.stream) == Z_OK : rc == Z_OK && used == out.size();
    if (!more && !(rc == Z_OK && z.stream.avail_in > 0)) {
      return invalid("malformed_body", "cannot decompress the message: {}",
                     z.stream.msg != nullptr ? z.stream.msg : "it is no complete gzip stream");
    }
  }
  if (used > max_bytes) return too_large(max_bytes);
  out.resize(used);
  return Ok{};
}

bool gzip(std::string_view in, std::string& out) {
  z_stream stream{};
  if (in.size() > std::numeric_limits<uInt>::max() / 2) return false;
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) != Z_OK) return false;
  const std::size_t start = out.size();
  out.resize(start + deflateBound(&stream, in.size()));
  stream.next_in = bytes(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = bytes(out.data() + start);
  stream.avail_out = at_once(out.size() - start);
  const bool done = deflate(&stream, Z_FINISH) == Z_STREAM_END;
  out.resize(done ? out.size() - stream.avail_out : start);
  deflateEnd(&stream);
  return done;
}

}  // namespace mayfly::grpc
