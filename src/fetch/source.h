// What a user may name as the source of a model: a local path, https:// or http://, s3://BUCKET/KEY, or
// oci://REGISTRY/REPOSITORY:TAG. A value and the reading of its text; nothing is looked up.
//
// A known content is named by its hash: `#sha256=HEX` at the end of any source, or the parameter `sha256=HEX` of an
// http URL, which is not sent. Errors: invalid_source, which never repeats a URL's query: it may be a signature.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

inline constexpr std::size_t kMaxSourceBytes = 8192;

enum class SourceKind : std::uint8_t { kFile, kHttp, kS3, kOci };

struct Source {
  SourceKind kind = SourceKind::kFile;
  std::string shown;   // for people and logs: without query and hash
  std::string sha256;  // of the content, 64 hex digits; empty: not known

  std::string path;                   // kFile
  std::string url;                    // kHttp
  std::string bucket, key;            // kS3
  std::string registry;               // kOci: HOST[:PORT]
  std::string repository, reference;  // kOci: "org/model", and a tag or "sha256:…"
  std::string file;                   // kOci: title of the layer, from `#NAME`; empty: the only model in it
};

bool is_remote_source(std::string_view text);  // it names a scheme of those above
Result<Source> parse_source(std::string_view text);

// The parts of an http URL that connecting needs. Errors: invalid_source.
struct HttpUrl {
  std::string scheme, host;  // lower case; an IPv6 address without brackets
  std::uint16_t port = 0;
  std::string url;  // normalised, without fragment
};
Result<HttpUrl> parse_http_url(const std::string& text);
// `location`, of an answer of `base`: relative or absolute.
Result<HttpUrl> resolve_redirect(const HttpUrl& base, const std::string& location);
std::string without_query(std::string_view url);
// Each path segment percent-encoded, '/' kept.
std::string encode_path(std::string_view path);

}  // namespace mayfly
