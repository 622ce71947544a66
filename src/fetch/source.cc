#include "fetch/source.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <memory>

namespace mayfly {
namespace {

constexpr std::string_view kHashMark = "#sha256=";
constexpr std::string_view kHashParameter = "sha256=";
constexpr std::size_t kHashChars = 64;

std::string lower(std::string_view s) {
  std::string out(s);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

bool is_hash(std::string_view s) {
  return s.size() == kHashChars &&
         std::all_of(s.begin(), s.end(), [](unsigned char c) { return std::isxdigit(c) != 0; });
}

Status set_hash(Source& s, std::string_view hex) {
  if (!is_hash(hex))
    return invalid("invalid_source", "{}: sha256 has {} hexadecimal digits, not {} characters", s.shown, kHashChars,
                   hex.size());
  const std::string hash = lower(hex);
  if (!s.sha256.empty() && s.sha256 != hash)
    return invalid("invalid_source", "{}: two different sha256 are given", s.shown);
  s.sha256 = hash;
  return Ok{};
}

// Takes `#sha256=…` off the end.
Status take_hash(std::string_view& text, Source& s) {
  const auto at = text.rfind(kHashMark);
  if (at == std::string_view::npos) return Ok{};
  const std::string_view hex = text.substr(at + kHashMark.size());
  text = text.substr(0, at);
  return set_hash(s, hex);
}

// Takes the parameter sha256 out of a URL's query.
Status take_hash_parameter(std::string& url, Source& s) {
  const auto question = url.find('?');
  if (question == std::string::npos) return Ok{};
  std::string_view rest = std::string_view(url).substr(question + 1);
  std::string kept;
  while (!rest.empty()) {
    const auto amp = rest.find('&');
    const std::string_view pair = rest.substr(0, amp);
    rest = amp == std::string_view::npos ? std::string_view() : rest.substr(amp + 1);
    if (pair.starts_with(kHashParameter)) {
      MAYFLY_TRY(set_hash(s, pair.substr(kHashParameter.size())));
    } else {
      kept += (kept.empty() ? "?" : "&") + std::string(pair);
    }
  }
  url = url.substr(0, question) + kept;
  return Ok{};
}

struct FreeUrl {
  void operator()(CURLU* u) const { curl_url_cleanup(u); }
};
using Url = std::unique_ptr<CURLU, FreeUrl>;

std::string part(CURLU* u, CURLUPart what, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(u, what, &text, flags) != CURLUE_OK) return {};
  std::string out(text);
  curl_free(text);
  return out;
}

Result<HttpUrl> parts_of(CURLU* u, std::string_view shown) {
  HttpUrl out;
  out.scheme = lower(part(u, CURLUPART_SCHEME));
  out.host = lower(part(u, CURLUPART_HOST));
  if (out.host.size() > 2 && out.host.front() == '[') out.host = out.host.substr(1, out.host.size() - 2);
  const std::string port = part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  if ((out.scheme != "https" && out.scheme != "http") || out.host.empty() || port.empty())
    return invalid("invalid_source", "{}: not an http or https address", shown);
  if (!part(u, CURLUPART_USER).empty() || !part(u, CURLUPART_PASSWORD).empty())
    return invalid("invalid_source", "{}: a name or password in an address is not taken; it would end up in logs",
                   out.scheme + "://" + out.host);
  out.port = static_cast<std::uint16_t>(std::stoul(port));
  curl_url_set(u, CURLUPART_FRAGMENT, nullptr, 0);
  out.url = part(u, CURLUPART_URL);
  return out;
}

Status parse_s3(std::string_view rest, Source& s) {
  const auto slash = rest.find('/');
  s.bucket = std::string(rest.substr(0, slash));
  if (slash != std::string_view::npos) s.key = std::string(rest.substr(slash + 1));
  const bool name = !s.bucket.empty() && s.bucket.size() <= 63 && s.bucket.find("..") == std::string::npos &&
                    std::all_of(s.bucket.begin(), s.bucket.end(), [](unsigned char c) {
                      return std::islower(c) || std::isdigit(c) || c == '-' || c == '.' || c == '_';
                    });
  const std::string framed = '/' + s.key + '/';  // a gateway over a file system would leave a prefix by ".."
  const bool dots = framed.find("/../") != std::string::npos || framed.find("/./") != std::string::npos;
  if (!name || dots || s.key.empty() || s.key.size() > 1024)
    return invalid("invalid_source", "{}: expected s3://BUCKET/KEY with a key of 1 to 1024 bytes, without /../",
                   s.shown);
  return Ok{};
}

Status parse_oci(std::string_view rest, Source& s) {
  if (const auto hash = rest.find('#'); hash != std::string_view::npos) {
    s.file = std::string(rest.substr(hash + 1));
    rest = rest.substr(0, hash);
  }
  const auto slash = rest.find('/');
  if (slash != std::string_view::npos) {
    s.registry = lower(rest.substr(0, slash));
    rest = rest.substr(slash + 1);
    if (const auto at = rest.find('@'); at != std::string_view::npos) {
      s.reference = std::string(rest.substr(at + 1));
      s.repository = std::string(rest.substr(0, at));
      if (!s.reference.starts_with("sha256:") || !is_hash(std::string_view(s.reference).substr(7))) s.reference = "?";
    } else {
      const auto colon = rest.find(':');
      s.repository = std::string(rest.substr(0, colon));
      s.reference = colon == std::string_view::npos ? "latest" : std::string(rest.substr(colon + 1));
    }
  }
  const auto word = [](std::string_view text, std::string_view more) {
    return !text.empty() && text.size() <= 255 && text.find("..") == std::string_view::npos &&
           std::all_of(text.begin(), text.end(), [more](unsigned char c) {
             return c < 0x80 && (std::isalnum(c) || more.find(static_cast<char>(c)) != std::string_view::npos);
           });
  };
  if (word(s.registry, ".-:[]_") && word(s.repository, "._-/") && word(s.reference, "._-:")) return Ok{};
  return invalid("invalid_source",
                 "{}: expected oci://REGISTRY/REPOSITORY:TAG or …@sha256:HEX, and #FILE for one of several layers",
                 s.shown);
}

Status parse_http(std::string_view rest, Source& s) {
  std::string url(rest);
  MAYFLY_TRY(take_hash_parameter(url, s));
  auto parsed = parse_http_url(url);
  if (!parsed.ok()) return std::move(parsed.error());
  s.url = std::move(parsed->url);
  return Ok{};
}

}  // namespace

std::string without_query(std::string_view url) { return std::string(url.substr(0, url.find_first_of("?#"))); }

std::string encode_path(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const auto u = static_cast<unsigned char>(c);
    const bool plain = (u < 0x80 && std::isalnum(u)) || c == '-' || c == '_' || c == '.' || c == '~' || c == '/';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", u);
  }
  return out;
}

bool is_remote_source(std::string_view text) {
  const std::string scheme = lower(text.substr(0, std::min<std::size_t>(text.find(':'), 6)));
  return (scheme == "https" || scheme == "http" || scheme == "s3" || scheme == "oci") &&
         text.substr(scheme.size()).starts_with("://");
}

Result<HttpUrl> parse_http_url(const std::string& text) {
  const Url u(curl_url());
  if (!u || curl_url_set(u.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK)
    return invalid("invalid_source", "{}: not a valid address", without_query(text));
  return parts_of(u.get(), without_query(text));
}

Result<HttpUrl> resolve_redirect(const HttpUrl& base, const std::string& location) {
  const Url u(curl_url());
  if (!u || curl_url_set(u.get(), CURLUPART_URL, base.url.c_str(), 0) != CURLUE_OK ||
      curl_url_set(u.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK)
    return invalid("invalid_source", "{} redirects to what is no valid address", without_query(base.url));
  return parts_of(u.get(), without_query(location));
}

Result<Source> parse_source(std::string_view text) {
  Source s;
  if (text.empty() || text.size() > kMaxSourceBytes)
    return invalid("invalid_source", "a source has 1 to {} bytes, not {}", kMaxSourceBytes, text.size());
  if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    return invalid("invalid_source", "a source holds no control characters");
  if (!is_remote_source(text)) {
    s.shown = s.path = std::string(text);
    return s;
  }
  const std::string scheme = lower(text.substr(0, text.find(':')));
  s.shown = scheme == "s3" ? std::string(text.substr(0, text.rfind(kHashMark))) : without_query(text);
  MAYFLY_TRY(take_hash(text, s));
  const std::string_view rest = text.substr(scheme.size() + 3);
  Status st = Ok{};
  if (scheme == "s3") {
    s.kind = SourceKind::kS3;
    st = parse_s3(rest, s);
  } else if (scheme == "oci") {
    s.kind = SourceKind::kOci;
    st = parse_oci(rest, s);
  } else {
    s.kind = SourceKind::kHttp;
    if (rest.find('@') < rest.find_first_of("/?#")) s.shown = scheme + "://…";  // a password may be in it
    st = parse_http(text, s);
  }
  if (!st.ok()) return std::move(st.error());
  return s;
}

}  // namespace mayfly
