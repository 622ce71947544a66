#include "gateway/grpc/frame.h"

#include <cstring>

#include "gateway/grpc/gzip.h"

namespace mayfly::grpc {
namespace {

constexpr std::size_t kKeepBytes = 8 << 20;  // a buffer that has grown beyond goes back after its message

struct Frame {
  bool compressed = false;
  std::uint32_t length = 0;
};

// `prefix` has kPrefixBytes at least.
Result<Frame> read_prefix(std::string_view prefix, Encoding encoding, std::uint64_t max_bytes) {
  Frame f;
  const auto flag = static_cast<unsigned char>(prefix[0]);
  for (std::size_t i = 1; i < kPrefixBytes; ++i) f.length = f.length << 8 | static_cast<unsigned char>(prefix[i]);
  if (flag > 1) return invalid("malformed_frame", "a gRPC frame begins with byte {}; expected 0 or 1", flag);
  f.compressed = flag == 1;
  if (f.compressed && encoding == Encoding::kIdentity) {
    return make_error(Code::kInternal, "malformed_frame", "a compressed message, but the head names no grpc-encoding");
  }
  if (f.length > max_bytes) {
    return make_error(Code::kResourceExhausted, "payload_too_large",
                      "a message of {} bytes; the limit is {}: send less at once", f.length, max_bytes);
  }
  return f;
}

Result<std::string_view> open(const Frame& f, std::string_view message, std::uint64_t max_bytes,
                              std::string& inflated) {
  if (!f.compressed) return message;
  MAYFLY_TRY(gunzip(message, max_bytes, inflated));
  return std::string_view(inflated);
}

}  // namespace

Result<std::string_view> only_message(std::string_view body, Encoding encoding, std::uint64_t max_bytes,
                                      std::string& inflated) {
  if (inflated.capacity() > kKeepBytes) inflated = std::string();
  if (body.empty()) return invalid("malformed_frame", "the call has no message; expected one");
  if (body.size() < kPrefixBytes) return invalid("malformed_frame", "the call ends within the prefix of its message");
  auto frame = read_prefix(body, encoding, max_bytes);
  if (!frame.ok()) return std::move(frame.error());
  body.remove_prefix(kPrefixBytes);
  if (body.size() != frame->length) {
    return invalid("malformed_frame", "the message has {} bytes by its prefix; the call carries {}", frame->length,
                   body.size());
  }
  return open(*frame, body, max_bytes, inflated);
}

Task<Result<std::optional<std::string_view>>> MessageReader::next() {
  buffer_.erase(0, std::exchange(taken_, 0));
  if (buffer_.empty() && buffer_.capacity() > kKeepBytes) buffer_ = std::string();
  if (inflated_.capacity() > kKeepBytes) inflated_ = std::string();
  for (;;) {
    if (buffer_.size() >= kPrefixBytes) {
      auto frame = read_prefix(buffer_, encoding_, max_bytes_);
      if (!frame.ok()) co_return std::move(frame.error());
      if (buffer_.size() - kPrefixBytes >= frame->length) {
        taken_ = kPrefixBytes + frame->length;
        auto message =
            open(*frame, std::string_view(buffer_).substr(kPrefixBytes, frame->length), max_bytes_, inflated_);
        if (!message.ok()) co_return std::move(message.error());
        co_return std::optional<std::string_view>(*message);
      }
    }
    auto piece = co_await body_.next();
    if (!piece.ok()) co_return std::move(piece.error());
    if (piece->empty()) break;
    buffer_.append(piece->data(), piece->size());
  }
  if (buffer_.empty()) co_return std::optional<std::string_view>();
  co_return invalid("malformed_frame", "the stream ends within a message");
}

std::size_t open_frame(std::string& out) {
  out.append(kPrefixBytes, '\0');
  return out.size() - kPrefixBytes;
}

void close_frame(std::string& out, std::size_t at, bool compress) {
  const std::size_t begin = at + kPrefixBytes;
  if (compress && out.size() - begin >= kMinGzipBytes) {
    std::string packed;
    if (gzip(std::string_view(out).substr(begin), packed)) {
      out.replace(begin, std::string::npos, packed);
      out[at] = 1;
    }
  }
  const std::size_t length = out.size() - begin;
  for (std::size_t i = 0; i < 4; ++i) out[at + 1 + i] = static_cast<char>(length >> (24 - 8 * i));
}

}  // namespace mayfly::grpc
