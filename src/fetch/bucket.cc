#include "fetch/bucket.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "crypto/hash.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxAnswerBytes = 64 * 1024;
constexpr std::size_t kReadBytes = 256 * 1024;
constexpr std::size_t kMaxUploadId = 2048;
constexpr std::size_t kMaxEtag = 256;

// The text of the first element of that name, as far as it is plain.
std::string element(std::string_view xml, std::string_view name) {
  const std::string open = fmt::format("<{}>", name), close = fmt::format("</{}>", name);
  const auto from = xml.find(open);
  const auto to = xml.find(close, from == std::string_view::npos ? from : from + open.size());
  if (from == std::string_view::npos || to == std::string_view::npos) return {};
  return std::string(xml.substr(from + open.size(), to - from - open.size()));
}

// For a value of a query: '/' too.
std::string encode_value(std::string_view value) {
  std::string out;
  for (const char c : encode_path(value)) out += c == '/' ? std::string("%2F") : std::string(1, c);
  return out;
}

std::string xml_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += c;
  }
  return out;
}

Error corrupt(std::string_view digest, std::string_view where, std::string_view found) {
  return make_error(Code::kDataLoss, "package_corrupt",
                    "{} has not the content that its name says ({}): it was damaged, or put there by somebody else; "
                    "deploy the model of package {} again under another bucket or prefix, or remove the object first",
                    where, found, digest);
}

}  // namespace

// How a package is cut, and what is known of each part.
struct Bucket::Parts {
  std::uint64_t bytes = 0, part_bytes = 0;
  std::vector<std::string> hashes, etags;
  std::uint64_t from(std::size_t i) const { return i * part_bytes; }
  std::uint64_t length(std::size_t i) const { return std::min(part_bytes, bytes - from(i)); }

  // Reads the file once: the hash of each part, and of the whole.
  Result<std::string> hash(int fd) {
    std::vector<char> buffer(kReadBytes);
    Sha256 whole;
    for (std::uint64_t at = 0; at < bytes;) {
      Sha256 part;
      const std::uint64_t end = std::min(bytes, at + part_bytes);
      while (at < end) {
        const std::size_t want = std::min<std::uint64_t>(buffer.size(), end - at);
        const ssize_t n = ::pread(fd, buffer.data(), want, static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return errno_error(n < 0 ? errno : EIO, "read a package");
        const auto piece = std::span<const char>(buffer).first(static_cast<std::size_t>(n));
        part.update(piece);
        whole.update(piece);
        at += static_cast<std::uint64_t>(n);
      }
      hashes.push_back(part.hex_digest());
    }
    etags.resize(hashes.size());
    return whole.hex_digest();
  }
};

Result<std::unique_ptr<Bucket>> Bucket::create(const Fetcher& fetcher, std::string_view address) {
  constexpr std::string_view kScheme = "s3://";
  std::string text(address);
  while (text.ends_with('/') && text.size() > kScheme.size()) text.pop_back();
  // A source needs a key; its rules for names are these too.
  auto parsed = parse_source(text + "/x");
  if (!text.starts_with(kScheme) || !parsed.ok() || parsed->key.starts_with('/') ||
      parsed->key.find("//") != std::string::npos || parsed->key.size() + 64 > 1024)
    return invalid("invalid_source", "--packages \"{}\": expected s3://BUCKET or s3://BUCKET/PREFIX", address);
  std::string prefix = parsed->key.substr(0, parsed->key.size() - 1);
  return std::unique_ptr<Bucket>(new Bucket(fetcher, parsed->bucket, std::move(prefix)));
}

std::string Bucket::shown(std::string_view digest) const {
  return fmt::format("s3://{}/{}{}", bucket_, prefix_, digest);
}

Result<HttpUrl> Bucket::url(std::string_view digest, std::string_view query) const {
  auto url = fetcher_.s3_url(bucket_, prefix_ + std::string(digest));
  if (!url.ok() || query.empty()) return url;
  return parse_http_url(fmt::format("{}?{}", url->url, query));
}

Result<HttpAnswer> Bucket::ask(std::string_view what, std::string_view digest, Result<HttpUrl> at,
                               HttpRequest rq) const {
  if (!at.ok()) return std::move(at.error());
  rq.url = std::move(*at);
  rq.sign = &fetcher_.s3();
  auto answer = fetcher_.transport().exchange(rq, kMaxAnswerBytes);
  if (!answer.ok()) return unavailable(what, digest, answer.error());
  return answer;
}

Error Bucket::unavailable(std::string_view what, std::string_view digest, const Error& cause) const {
  if (cause.reason == "disk_full" || cause.code == Code::kDataLoss) return cause;
  return make_error(Code::kUnavailable, "package_store_unavailable", "cannot {} {}: {}", what, shown(digest),
                    cause.message);
}

Error Bucket::refused(std::string_view what, std::string_view digest, const HttpAnswer& answer) const {
  const bool rights = answer.status == 401 || answer.status == 403;
  return make_error(Code::kUnavailable, "package_store_unavailable", "cannot {} {}: the answer was {}{}{}", what,
                    shown(digest), answer.status, gist(answer.body),
                    rights ? "; are the server's credentials right, and may they read and write it?" : "");
}

Status Bucket::reach() const {
  HttpRequest rq;
  rq.method = "HEAD";
  auto answer = ask("reach", "", fetcher_.s3_url(bucket_, ""), rq);
  if (!answer.ok()) return std::move(answer.error());
  if (answer->status / 100 != 2) return refused("reach", "", *answer);
  return Ok{};
}

Result<std::uint64_t> Bucket::length(std::string_view digest) const {
  HttpRequest rq;
  rq.method = "HEAD";
  auto answer = ask("look for", digest, url(digest), rq);
  if (!answer.ok()) return std::move(answer.error());
  if (answer->status == 404)
    return make_error(Code::kNotFound, "package_not_found", "there is no package {}; upload it again", digest);
  if (answer->status / 100 != 2) return refused("look for", digest, *answer);
  const std::string_view text = header(answer->headers, "content-length");
  std::uint64_t found = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), found).ec != std::errc())
    return make_error(Code::kUnavailable, "package_store_unavailable", "cannot look for {}: the answer has no length",
                      shown(digest));
  return found;
}

Result<bool> Bucket::has(std::string_view digest, std::uint64_t bytes) const {
  auto found = length(digest);
  if (found.ok()) return *found == bytes;
  if (found.error().code == Code::kNotFound) return false;
  return std::move(found.error());
}

Result<bool> Bucket::put(const std::string& digest, int fd, std::uint64_t bytes) const {
  auto there = has(digest, bytes);
  if (!there.ok()) return std::move(there.error());
  if (*there) return false;
  const Status sent = bytes <= multipart_bytes_ ? put_whole(digest, fd, bytes) : put_parts(digest, fd, bytes);
  if (sent.ok()) return true;
  if (sent.error().code == Code::kDataLoss) return sent.error();
  // Another server may have written the same meanwhile.
  if (there = has(digest, bytes); there.ok() && *there) return true;
  return sent.error();
}

Status Bucket::put_whole(const std::string& digest, int fd, std::uint64_t bytes) const {
  HttpRequest rq;
  rq.method = "PUT";
  rq.headers = {"x-amz-content-sha256: " + digest, "Content-Type: application/octet-stream"};
  rq.body_fd = fd;
  rq.body_bytes = bytes;
  auto answer = ask("write", digest, url(digest), rq);
  if (!answer.ok()) return std::move(answer.error());
  if (answer->status / 100 != 2) return refused("write", digest, *answer);
  return Ok{};
}

Result<std::string> Bucket::begin_parts(std::string_view digest) const {
  HttpRequest rq;
  rq.method = "POST";
  auto answer = ask("write", digest, url(digest, "uploads="), rq);
  if (!answer.ok()) return std::move(answer.error());
  std::string id = answer->status == 200 ? element(answer->body, "UploadId") : std::string();
  if (id.empty() || id.size() > kMaxUploadId) return refused("write", digest, *answer);
  return id;
}

Result<std::string> Bucket::send_part(std::string_view digest, int fd, std::string_view upload, const Parts& parts,
                                      std::size_t i) const {
  HttpRequest rq;
  rq.method = "PUT";
  rq.headers = {"x-amz-content-sha256: " + parts.hashes[i]};
  rq.body_fd = fd;
  rq.body_from = parts.from(i);
  rq.body_bytes = parts.length(i);
  auto answer =
      ask("write", digest, url(digest, fmt::format("partNumber={}&uploadId={}", i + 1, encode_value(upload))), rq);
  if (!answer.ok()) return std::move(answer.error());
  const std::string_view etag = header(answer->headers, "etag");
  if (answer->status / 100 != 2 || etag.empty() || etag.size() > kMaxEtag) return refused("write", digest, *answer);
  return std::string(etag);
}

Status Bucket::send_parts(std::string_view digest, int fd, std::string_view upload, Parts& parts) const {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::optional<Error> failed;
  const auto work = [&] {
    for (std::size_t i = 0; (i = next.fetch_add(1)) < parts.hashes.size();) {
      auto etag = send_part(digest, fd, upload, parts, i);
      if (etag.ok()) {
        parts.etags[i] = std::move(*etag);
        continue;
      }
      next = parts.hashes.size();  // the others end too
      const std::lock_guard lock(mutex);
      if (!failed) failed = std::move(etag.error());
    }
  };
  {
    std::vector<std::jthread> helpers;
    try {
      while (helpers.size() + 1 < std::min(kUploadPartsAtOnce, parts.hashes.size())) helpers.emplace_back(work);
    } catch (const std::exception&) {  // fewer, then
    }
    work();
  }
  if (failed) return std::move(*failed);
  return Ok{};
}

Status Bucket::complete_parts(std::string_view digest, std::string_view upload, const Parts& parts) const {
  std::string list = "<CompleteMultipartUpload>";
  for (std::size_t i = 0; i < parts.etags.size(); ++i)
    list += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1, xml_text(parts.etags[i]));
  list += "</CompleteMultipartUpload>";
  HttpRequest rq;
  rq.method = "POST";
  rq.text = list;
  auto answer = ask("write", digest, url(digest, fmt::format("uploadId={}", encode_value(upload))), rq);
  if (!answer.ok()) return std::move(answer.error());
  // S3 may begin with 200 and say in the body that it failed.
  if (answer->status != 200 || answer->body.find("<Error>") != std::string::npos)
    return refused("write", digest, *answer);
  return Ok{};
}

Status Bucket::put_parts(const std::string& digest, int fd, std::uint64_t bytes) const {
  Parts parts;
  parts.bytes = bytes;
  parts.part_bytes = std::max(part_bytes_, bytes / kMostParts + 1);
  auto whole = parts.hash(fd);
  if (!whole.ok()) return std::move(whole.error());
  if (*whole != digest) return corrupt(digest, "the package on this server", *whole);
  auto upload = begin_parts(digest);
  if (!upload.ok()) return std::move(upload.error());
  Status sent = send_parts(digest, fd, *upload, parts);
  if (sent.ok()) sent = complete_parts(digest, *upload, parts);
  if (sent.ok()) return sent;
  // Parts that are nobody's cost money: given up as far as that can be told to the store.
  HttpRequest rq;
  rq.method = "DELETE";
  static_cast<void>(ask("give up", digest, url(digest, fmt::format("uploadId={}", encode_value(*upload))), rq).ok());
  return sent;
}

Result<Downloaded> Bucket::get(const std::string& digest, int fd, std::uint64_t max_bytes) const {
  auto at = url(digest);
  if (!at.ok()) return std::move(at.error());
  DownloadRequest rq;
  rq.url = std::move(*at);
  rq.shown = shown(digest);
  rq.sign = &fetcher_.s3();
  rq.fd = fd;
  rq.max_bytes = max_bytes;
  rq.sha256 = digest;
  auto got = download(fetcher_.transport(), rq);
  if (got.ok()) return got;
  const Error& e = got.error();
  if (e.code == Code::kNotFound)
    return make_error(Code::kNotFound, "package_not_found", "there is no package {}, also not as {}; upload it again",
                      digest, shown(digest));
  if (e.reason == "digest_mismatch" || e.reason == "source_empty") return corrupt(digest, shown(digest), e.message);
  return unavailable("read", digest, e);
}

}  // namespace mayfly
