// One object of an HTTP server into one file: parts of 8 MiB, four at a time, each written at its place, hashed in
// order as they arrive. Blocks; one thread.
//
// The first part tells length and ETag. Parts that follow ask with If-Match, and each answer must name the same length
// and ETag, so that all bytes are of one object. A part that broke or stalled is asked for again from the byte that is
// missing, at most kPartRetries times. A server without ranges is read in one piece, and from the start again. An
// object that changed on the way is begun anew, at most kRestarts times.
//
// Errors besides Transport's: payload_too_large (before a byte of it is stored where the length is known),
// digest_mismatch, source_changed, source_truncated (it keeps ending early), source_length_mismatch (it sends other or
// more bytes than it says), source_not_found, source_refused, source_unsupported, source_empty, disk_full, cancelled.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "fetch/transport.h"

namespace mayfly {

inline constexpr std::uint64_t kPartBytes = 8ULL << 20;
inline constexpr std::uint32_t kPartsAtOnce = 4;
inline constexpr std::uint32_t kPartRetries = 4;
inline constexpr std::uint32_t kRestarts = 2;

struct DownloadRequest {
  HttpUrl url;
  std::string shown;                 // for people
  std::vector<std::string> headers;  // such as Authorization; dropped where a redirect leaves the host
  const S3Credentials* sign = nullptr;
  int fd = -1;  // an empty file, open for reading and writing
  std::uint64_t max_bytes = 0;
  std::string sha256;       // of the content; empty: not known
  std::uint64_t bytes = 0;  // length of the content; 0: not known
  std::uint64_t part_bytes = kPartBytes;
  std::uint32_t parts_at_once = kPartsAtOnce;
  const std::atomic<bool>* cancelled = nullptr;  // may be null
};

struct Downloaded {
  std::uint64_t bytes = 0;
  std::string sha256;
  std::uint32_t requests = 0, retries = 0;
};

Result<Downloaded> download(const Transport& transport, const DownloadRequest& request);

// "bytes 0-9/100" as (first, last, total); total is kUnknownTotal for "*".
struct ContentRange {
  static constexpr std::uint64_t kUnknownTotal = ~0ULL;
  std::uint64_t first = 0, last = 0, total = kUnknownTotal;
};
Result<ContentRange> parse_content_range(std::string_view text);

}  // namespace mayfly
