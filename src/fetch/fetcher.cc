#include "fetch/fetcher.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

namespace mayfly {
namespace {

constexpr std::size_t kMaxCredentialFile = 64 * 1024;

constexpr const char* kSecretVariables[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"};

void set_variable(FetchOptions& o, std::string_view name, std::string value) {
  if (name == "AWS_ACCESS_KEY_ID") o.s3.access_key = std::move(value);
  if (name == "AWS_SECRET_ACCESS_KEY") o.s3.secret_key = std::move(value);
  if (name == "AWS_SESSION_TOKEN") o.s3.session_token = std::move(value);
  if (name == "AWS_REGION" || name == "AWS_DEFAULT_REGION") o.s3.region = std::move(value);
  if (name == "AWS_ENDPOINT_URL_S3" || name == "AWS_ENDPOINT_URL") o.s3_endpoint = std::move(value);
}

}  // namespace

void s3_from_environment(FetchOptions& options) {
  // The more special name is later, and wins.
  for (const char* name : {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION",
                           "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"}) {
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') set_variable(options, name, value);
  }
}

void wipe_s3_environment() {
  for (const char* name : kSecretVariables) {
    if (char* value = std::getenv(name)) {
      ::explicit_bzero(value, std::strlen(value));
      ::unsetenv(name);
    }
  }
}

Status s3_from_file(const std::string& path, FetchOptions& options) {
  std::ifstream in(path);
  std::string line;
  std::size_t total = 0;
  if (!in)
    return make_error(Code::kFailedPrecondition, "file_unreadable", "cannot read the S3 credentials in {}", path);
  while (std::getline(in, line) && (total += line.size()) <= kMaxCredentialFile) {
    const auto equals = line.find('=');
    if (equals == std::string::npos || line.starts_with('#')) continue;
    std::string_view value = std::string_view(line).substr(equals + 1);
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
    set_variable(options, line.substr(0, equals), std::string(value));
  }
  ::explicit_bzero(line.data(), line.size());
  return Ok{};
}

Result<std::unique_ptr<Fetcher>> Fetcher::create(FetchOptions options) {
  if (!options.s3_endpoint.empty()) {
    auto url = parse_http_url(options.s3_endpoint);
    if (!url.ok()) return invalid("invalid_source", "S3 endpoint: {}", url.error().message);
    const bool v6 = url->host.find(':') != std::string::npos;
    MAYFLY_TRY(
        options.transport.policy.allow(fmt::format("{}{}{}:{}", v6 ? "[" : "", url->host, v6 ? "]" : "", url->port)));
    while (options.s3_endpoint.ends_with('/')) options.s3_endpoint.pop_back();
  }
  return std::make_unique<Fetcher>(std::move(options));
}

Result<HttpUrl> Fetcher::s3_url(std::string_view bucket, std::string_view key) const {
  const std::string endpoint = options_.s3_endpoint.empty()
                                   ? fmt::format("https://s3.{}.amazonaws.com", options_.s3.region)
                                   : options_.s3_endpoint;
  return parse_http_url(fmt::format("{}/{}/{}", endpoint, bucket, encode_path(key)));
}

Status Fetcher::check(const Source& s) const {
  if (s.kind == SourceKind::kFile)
    return invalid("invalid_source", "\"{}\" is a local path; upload the file instead, or name a source with a scheme",
                   s.shown);
  if (s.kind == SourceKind::kS3) return options_.transport.policy.check_bucket(s.bucket, s.key);
  if (s.kind != SourceKind::kHttp) return Ok{};
  auto url = parse_http_url(s.url);
  if (!url.ok()) return std::move(url.error());
  return options_.transport.policy.check_url(url->scheme, url->host, url->port);
}

Result<Downloaded> Fetcher::fetch(const Source& s, int fd, std::uint64_t max_bytes,
                                  const std::atomic<bool>* cancelled) const {
  MAYFLY_TRY(check(s));
  DownloadRequest rq;
  if (s.kind == SourceKind::kOci) {
    auto made = oci_request(s);
    if (!made.ok()) return std::move(made.error());
    rq = std::move(*made);
  } else {
    auto url = s.kind == SourceKind::kS3 ? s3_url(s.bucket, s.key) : parse_http_url(s.url);
    if (!url.ok()) return std::move(url.error());
    rq.url = std::move(*url);
    if (s.kind == SourceKind::kS3) rq.sign = &options_.s3;
  }
  rq.shown = s.shown;
  if (!s.sha256.empty() && !rq.sha256.empty() && s.sha256 != rq.sha256)
    return invalid("digest_mismatch", "{} has the sha256 {} by its manifest, but {} was asked for", s.shown, rq.sha256,
                   s.sha256);
  if (rq.sha256.empty()) rq.sha256 = s.sha256;
  rq.fd = fd;
  rq.max_bytes = max_bytes;
  rq.cancelled = cancelled;
  return download(transport_, rq);
}

}  // namespace mayfly
