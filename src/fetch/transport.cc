#include "fetch/transport.h"

#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstring>
#include <thread>

#include "crypto/hash.h"

namespace mayfly {
namespace {

constexpr int kTries = 4;
constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::size_t kMaxHeaderBytes = 8192;
constexpr std::size_t kShownBodyBytes = 300;
constexpr char kContentHash[] = "x-amz-content-sha256";

std::string address_text(const sockaddr& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.sa_family == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof text);
  if (address.sa_family == AF_INET6)
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, text, sizeof text);
  return text;
}

curl_socket_t on_open(void* user, curlsocktype, struct curl_sockaddr* a) {
  auto& x = *static_cast<Exchange*>(user);
  if (!x.policy->allows_address(x.url.host, x.url.port, a->addr)) {
    x.denied = address_text(a->addr);
    return CURL_SOCKET_BAD;
  }
  return ::socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

std::size_t on_header(char* data, std::size_t size, std::size_t n, void* user) {
  auto& x = *static_cast<Exchange*>(user);
  std::string_view line(data, size * n);
  if (line.starts_with("HTTP/")) {  // an interim answer may have come before
    x.headers.clear();
    const auto space = line.find(' ');
    x.status = space == std::string_view::npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
    return size * n;
  }
  if (line.size() > kMaxHeaderBytes || x.headers.size() >= kMaxAnswerHeaders) return 0;
  if (line == "\r\n" && x.status >= 200 && x.on_head != nullptr && !x.on_head(x.on_head_for)) return 0;
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return size * n;
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && std::strchr(" \t\r\n", value.front())) value.remove_prefix(1);
  while (!value.empty() && std::strchr(" \t\r\n", value.back())) value.remove_suffix(1);
  x.headers.insert_or_assign(std::move(name), std::string(value));
  return size * n;
}

std::size_t on_read(char* out, std::size_t size, std::size_t n, void* user) {
  auto& x = *static_cast<Exchange*>(user);
  const std::size_t want = std::min<std::uint64_t>(size * n, x.body_end - x.body_at);
  const ssize_t got = ::pread(x.body_fd, out, want, static_cast<off_t>(x.body_at));
  if (got < 0 || (got == 0 && want > 0)) return CURL_READFUNC_ABORT;
  x.body_at += static_cast<std::uint64_t>(got);
  return static_cast<std::size_t>(got);
}

int on_seek(void* user, curl_off_t offset, int origin) {
  if (origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
  auto& x = *static_cast<Exchange*>(user);
  x.body_at = x.body_from + static_cast<std::uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

struct Bounded {
  std::string text;
  std::size_t max = 0;
  bool over = false;
};

std::size_t on_body(char* data, std::size_t size, std::size_t n, void* user) {
  auto& b = *static_cast<Bounded*>(user);
  if (size * n > b.max - b.text.size()) {
    b.over = true;
    return 0;
  }
  b.text.append(data, size * n);
  return size * n;
}

struct FreeEasy {
  void operator()(CURL* h) const { curl_easy_cleanup(h); }
};

}  // namespace

void Transport::global_init() { curl_global_init(CURL_GLOBAL_DEFAULT); }

std::string_view header(const Headers& headers, const char* name) {
  const auto at = headers.find(name);
  return at == headers.end() ? std::string_view() : std::string_view(at->second);
}

std::string gist(std::string_view body) {
  const auto from = body.find("<Code>"), to = body.find("</Code>");
  if (from != std::string_view::npos && to > from) body = body.substr(from + 6, to - from - 6);
  std::string out(body.substr(0, std::min(body.find('\n'), kShownBodyBytes)));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = ' ';
  }
  return out.empty() ? out : " (" + out + ")";
}

bool same_origin(const HttpUrl& a, const HttpUrl& b) {
  return a.scheme == b.scheme && a.host == b.host && a.port == b.port;
}

bool status_may_pass(int status) { return status == 408 || status == 425 || status == 429 || status >= 500; }

Error status_error(int status, std::string_view shown, std::string_view body) {
  if (status == 404 || status == 410) {
    return make_error(Code::kNotFound, "source_not_found", "there is nothing at {}: the answer was {}{}", shown, status,
                      gist(body));
  }
  if (status == 401 || status == 403) {
    return invalid("source_refused", "{} was refused with {}{}; are the credentials right, and may they read it?",
                   shown, status, gist(body));
  }
  return make_error(status_may_pass(status) ? Code::kUnavailable : Code::kInvalidArgument, "source_unavailable",
                    "{} could not be read: the answer was {}{}", shown, status, gist(body));
}

Status Transport::prepare(CURL* h, const HttpRequest& rq, Exchange& x) const {
  MAYFLY_TRY(options_.policy.check_url(rq.url.scheme, rq.url.host, rq.url.port));
  x.policy = &options_.policy;
  x.url = rq.url;
  x.sent = curl_slist_append(nullptr, "Expect:");
  for (const std::string& line : rq.headers) x.sent = curl_slist_append(x.sent, line.c_str());
  curl_easy_setopt(h, CURLOPT_URL, rq.url.url.c_str());
  curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(h, CURLOPT_PROXY, "");  // behind a proxy the policy would see the proxy's address only
  curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(h, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));  // parallel means connections
  curl_easy_setopt(h, CURLOPT_USERAGENT, "mayfly");
  curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout_ms));
  curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, kStallBytes);
  curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, std::max(1L, static_cast<long>(options_.stall_ms / 1000)));
  curl_easy_setopt(h, CURLOPT_BUFFERSIZE, 256L * 1024L);
  curl_easy_setopt(h, CURLOPT_ERRORBUFFER, x.detail);
  curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, on_open);
  curl_easy_setopt(h, CURLOPT_OPENSOCKETDATA, &x);
  curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(h, CURLOPT_HEADERDATA, &x);
  if (!options_.ca_pem.empty()) {
    curl_blob blob{const_cast<char*>(options_.ca_pem.data()), options_.ca_pem.size(), CURL_BLOB_NOCOPY};
    curl_easy_setopt(h, CURLOPT_CAINFO_BLOB, &blob);
  }
  const std::string_view method(rq.method);
  if (method == "HEAD") curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
  if (method == "DELETE") curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, rq.method);
  if (method == "POST") {
    curl_easy_setopt(h, CURLOPT_POST, 1L);
    curl_easy_setopt(h, CURLOPT_POSTFIELDS, rq.text.data());
    curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(rq.text.size()));
    x.sent = curl_slist_append(x.sent, "Content-Type: application/xml");
  }
  if (rq.body_fd >= 0) {
    x.body_fd = rq.body_fd;
    x.body_from = x.body_at = rq.body_from;
    x.body_end = rq.body_from + rq.body_bytes;
    curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(rq.body_bytes));
    curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(h, CURLOPT_READDATA, &x);
    curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(h, CURLOPT_SEEKDATA, &x);
    curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024L);
  }
  if (rq.sign != nullptr && !rq.sign->access_key.empty()) {
    const S3Credentials& c = *rq.sign;
    curl_easy_setopt(h, CURLOPT_AWS_SIGV4, fmt::format("aws:amz:{}:s3", c.region).c_str());
    curl_easy_setopt(h, CURLOPT_USERNAME, c.access_key.c_str());
    curl_easy_setopt(h, CURLOPT_PASSWORD, c.secret_key.c_str());
    // What S3 asks of every request: the hash of the body, here of none or of a text.
    const auto names_hash = [](const std::string& line) { return line.starts_with(kContentHash); };
    if (std::none_of(rq.headers.begin(), rq.headers.end(), names_hash))
      x.sent = curl_slist_append(x.sent, fmt::format("{}: {}", kContentHash, sha256_hex(rq.text)).c_str());
    if (!c.session_token.empty())
      x.sent = curl_slist_append(x.sent, ("x-amz-security-token: " + c.session_token).c_str());
  }
  curl_easy_setopt(h, CURLOPT_HTTPHEADER, x.sent);
  return Ok{};
}

bool Transport::may_pass(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
      return true;
    default:
      return false;
  }
}

Error Transport::describe(CURLcode code, const Exchange& x) {
  const std::string shown = without_query(x.url.url);
  if (!x.denied.empty()) {
    return make_error(Code::kPermissionDenied, "source_not_allowed",
                      "{} is at {}, an address of a private or special network; have the host allowed (--allow-source "
                      "{}:{})",
                      shown, x.denied, x.url.host, x.url.port);
  }
  const char* what = x.detail[0] != '\0' ? x.detail : curl_easy_strerror(code);
  if (code == CURLE_OPERATION_TIMEDOUT)
    return make_error(Code::kUnavailable, "source_stalled", "{} sends too slowly or not at all: {}", shown, what);
  return make_error(Code::kUnavailable, "source_unavailable", "{} could not be read: {}", shown, what);
}

Result<HttpAnswer> Transport::exchange_once(const HttpRequest& rq, std::size_t max_bytes, bool& again) const {
  const std::unique_ptr<CURL, FreeEasy> h(curl_easy_init());
  if (!h) return make_error(Code::kInternal, "system_call_failed", "cannot set up libcurl");
  Exchange x;
  MAYFLY_TRY(prepare(h.get(), rq, x));
  Bounded body;
  body.max = max_bytes;
  curl_easy_setopt(h.get(), CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(h.get(), CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(h.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(options_.deadline_ms));
  const CURLcode code = curl_easy_perform(h.get());
  if (body.over)
    return invalid("source_unsupported", "{}: the answer is larger than the limit of {} bytes",
                   without_query(rq.url.url), max_bytes);
  if (code != CURLE_OK) {
    again = may_pass(code) && x.denied.empty();
    return describe(code, x);
  }
  again = status_may_pass(x.status);
  return HttpAnswer{x.status, std::move(x.headers), std::move(body.text)};
}

Result<HttpAnswer> Transport::exchange(const HttpRequest& request, std::size_t max_bytes) const {
  HttpRequest rq = request;
  int redirects = 0;
  for (int tries = 1;; ++tries) {
    bool again = false;
    auto answer = exchange_once(rq, max_bytes, again);
    const bool moved = answer.ok() && answer->status >= 300 && answer->status < 400 && rq.body_fd < 0 &&
                       std::string_view(rq.method) != "POST" && !header(answer->headers, "location").empty();
    if (moved) {
      if (++redirects > kMaxRedirects)
        return invalid("source_unsupported", "{} redirects more than {} times", without_query(rq.url.url),
                       kMaxRedirects);
      auto next = resolve_redirect(rq.url, answer->headers["location"]);
      if (!next.ok()) return std::move(next.error());
      if (!same_origin(*next, rq.url)) {
        rq.headers.clear();
        rq.sign = nullptr;
      }
      rq.url = std::move(*next);
      continue;
    }
    if (!again || tries >= kTries) return answer;
    std::this_thread::sleep_for(kFirstPause * (1 << tries));
  }
}

}  // namespace mayfly
