// The frames of gRPC: a byte that says whether the message is compressed, its length in four bytes, the message.
// Messages are compressed with gzip or not at all; a decoded message is bounded like one that came plain. Values, and a
// reader of one body. Source: grpc.io, "gRPC over HTTP2", section "Length-Prefixed-Message".
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/grpc/call.h"

namespace mayfly::grpc {

inline constexpr std::size_t kPrefixBytes = 5;
inline constexpr std::size_t kMinGzipBytes = 1024;  // smaller answers are sent plain, whatever the client takes

// The one message of a unary call's body. It lies in `body`, or in `inflated`. Errors: malformed_frame (none, more than
// one, cut short; kInternal for a compressed one where the head names no encoding), malformed_body (damaged gzip),
// payload_too_large.
Result<std::string_view> only_message(std::string_view body, Encoding encoding, std::uint64_t max_bytes,
                                      std::string& inflated);

// Messages of a body that is still coming. Holds one message at most, and what came with its end.
class MessageReader {
 public:
  MessageReader(BodyReader& body, Encoding encoding, std::uint64_t max_bytes)
      : body_(body), encoding_(encoding), max_bytes_(max_bytes) {}
  // The next message, valid until the next call; nothing at the end. Errors: as above, and those of BodyReader.
  Task<Result<std::optional<std::string_view>>> next();

 private:
  BodyReader& body_;
  Encoding encoding_;
  std::uint64_t max_bytes_;
  std::string buffer_, inflated_;
  std::size_t taken_ = 0;  // of buffer_, by the message before
};

// Appends room for a prefix, and returns where it begins; close_frame fills it for all that was appended since.
std::size_t open_frame(std::string& out);
// Compresses the message first if `gzip`, and if it is not too small for that.
void close_frame(std::string& out, std::size_t at, bool gzip);

}  // namespace mayfly::grpc
