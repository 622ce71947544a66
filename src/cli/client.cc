#include "cli/client.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

#include "base/fd.h"

namespace mayfly::cli {
namespace {

constexpr long kConnectTimeoutMs = 5'000;
constexpr std::size_t kMaxAnswerBytes = 1ULL << 30;
constexpr double kProgressAfterSeconds = 2;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string lower(std::string_view s) {
  std::string out(s);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && std::strchr(" \t\r\n", s.front())) s.remove_prefix(1);
  while (!s.empty() && std::strchr(" \t\r\n", s.back())) s.remove_suffix(1);
  return s;
}

std::size_t on_body(char* data, std::size_t size, std::size_t n, void* user) {
  auto& out = *static_cast<std::string*>(user);
  if (out.size() + size * n > kMaxAnswerBytes) return 0;
  out.append(data, size * n);
  return size * n;
}

std::size_t on_header(char* data, std::size_t size, std::size_t n, void* user) {
  auto& headers = *static_cast<std::map<std::string, std::string>*>(user);
  const std::string_view line(data, size * n);
  if (line.starts_with("HTTP/")) headers.clear();  // an interim answer came before
  if (const auto colon = line.find(':'); colon != std::string_view::npos) {
    headers[lower(line.substr(0, colon))] = std::string(trim(line.substr(colon + 1)));
  }
  return size * n;
}

struct Upload {
  Fd fd;
  std::uint64_t size = 0;
  std::string name;
  Clock::time_point start;
  Clock::time_point shown;
  bool terminal = false;
  bool drawn = false;
};

std::size_t on_read(char* out, std::size_t size, std::size_t n, void* user) {
  const ssize_t got = ::read(static_cast<Upload*>(user)->fd.get(), out, size * n);
  return got < 0 ? CURL_READFUNC_ABORT : static_cast<std::size_t>(got);
}

int on_seek(void* user, curl_off_t offset, int origin) {
  return ::lseek(static_cast<Upload*>(user)->fd.get(), offset, origin) < 0 ? CURL_SEEKFUNC_FAIL : CURL_SEEKFUNC_OK;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t sent) {
  auto& u = *static_cast<Upload*>(user);
  const double t = seconds_since(u.start);
  if (!u.terminal || t < kProgressAfterSeconds || seconds_since(u.shown) < 0.2) return 0;
  u.shown = Clock::now();
  u.drawn = true;
  const auto bytes = static_cast<std::uint64_t>(sent);
  fmt::print(stderr, "\r\033[Kupload   {}  {} of {} ({}%), {}/s", printable(u.name), human_bytes(bytes),
             human_bytes(u.size), u.size ? bytes * 100 / u.size : 100,
             human_bytes(static_cast<std::uint64_t>(static_cast<double>(bytes) / t)));
  std::fflush(stderr);
  return 0;
}

bool is_loopback(std::string_view server) {
  std::string_view host = server.substr(server.find("://") + 3);
  host = host.starts_with('[') ? host.substr(0, host.find(']') + 1) : host.substr(0, host.find_first_of(":/"));
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

Error transport_error(CURLcode code, const std::string& server, const char* detail) {
  const char* what = *detail ? detail : curl_easy_strerror(code);
  if (code == CURLE_OPERATION_TIMEDOUT) {
    return make_error(Code::kDeadlineExceeded, "server_timeout", "no answer from {}: {}", server, what);
  }
  if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL) {
    return invalid("invalid_server_address", "{} is no server address ({}); write it as http://HOST:PORT", server,
                   what);
  }
  if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) {
    return make_error(Code::kUnavailable, "server_unreachable",
                      "cannot reach the server at {} ({}); start one with `mayfly serve`, or name another by --server "
                      "or MAYFLY_SERVER",
                      server, what);
  }
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
    return make_error(Code::kUnavailable, "server_not_trusted",
                      "the server at {} is not trusted ({}); name the file of its authority with --ca-file or "
                      "MAYFLY_CA_FILE",
                      server, what);
  }
  return make_error(Code::kUnavailable, "server_unreachable", "the exchange with the server at {} failed: {}", server,
                    what);
}

Code code_for_status(int status) {
  switch (status) {
    case 401:
      return Code::kUnauthenticated;
    case 403:
      return Code::kPermissionDenied;
    case 404:
      return Code::kNotFound;
    case 409:
      return Code::kAborted;
    case 412:
      return Code::kFailedPrecondition;
    case 429:
      return Code::kResourceExhausted;
    case 499:
      return Code::kCancelled;
    case 501:
      return Code::kUnimplemented;
    case 503:
      return Code::kUnavailable;
    case 504:
      return Code::kDeadlineExceeded;
    default:
      return status >= 400 && status < 500 ? Code::kInvalidArgument : Code::kInternal;
  }
}

Result<Json> json_of(const Answer& a) {
  if (a.status < 200 || a.status >= 300) return error_from_answer(a);
  Json j = Json::parse(a.body, nullptr, false);
  if (j.is_discarded()) {
    return make_error(Code::kInternal, "unexpected_answer",
                      "the server's answer is not JSON; is it a Mayfly server? {}", a.body.substr(0, 200));
  }
  return j;
}

}  // namespace

struct Client::Impl {
  CURL* easy = nullptr;
  char detail[CURL_ERROR_SIZE] = {};
  ~Impl() {
    if (easy) curl_easy_cleanup(easy);
  }
};

Client::Client(Connection connection, std::unique_ptr<Impl> impl)
    : connection_(std::move(connection)), impl_(std::move(impl)) {}
Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::create(Connection connection) {
  auto impl = std::make_unique<Impl>();
  impl->easy = curl_easy_init();
  if (!impl->easy) return make_error(Code::kInternal, "http_client_failed", "cannot set up the HTTP client (libcurl)");
  return std::unique_ptr<Client>(new Client(std::move(connection), std::move(impl)));
}

// The body's options are set by the caller; all others here, and all are forgotten afterwards (the connection is not).
Result<Answer> Client::perform(const char* method, const std::string& path, const std::string& content_type) {
  CURL* h = impl_->easy;
  Answer answer;
  curl_slist* headers = curl_slist_append(nullptr, "Expect:");  // no wait of a second before the body
  if (!content_type.empty()) headers = curl_slist_append(headers, ("Content-Type: " + content_type).c_str());
  if (has_key()) headers = curl_slist_append(headers, ("Authorization: Bearer " + connection_.key).c_str());
  impl_->detail[0] = 0;
  curl_easy_setopt(h, CURLOPT_URL, (connection_.server + path).c_str());
  curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
  curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(h, CURLOPT_USERAGENT, "mayfly-cli");
  curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);  // a name ".." stays a name
  curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
  curl_easy_setopt(h, CURLOPT_ERRORBUFFER, impl_->detail);
  curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(h, CURLOPT_WRITEDATA, &answer.body);
  curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(h, CURLOPT_HEADERDATA, &answer.headers);
  if (!connection_.ca_file.empty()) {
    curl_easy_setopt(h, CURLOPT_CAINFO, connection_.ca_file.c_str());
    curl_easy_setopt(h, CURLOPT_CAPATH, nullptr);
  }
  if (is_loopback(connection_.server)) curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
  const auto start = Clock::now();
  const CURLcode code = curl_easy_perform(h);
  answer.seconds = seconds_since(start);
  long status = 0;
  curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
  answer.status = static_cast<int>(status);
  curl_slist_free_all(headers);
  curl_easy_reset(h);
  if (code == CURLE_OK) return answer;
  return transport_error(code, connection_.server, impl_->detail);
}

Result<Answer> Client::request(const char* method, const std::string& path, std::string_view body,
                               const std::string& content_type) {
  if (std::string_view(method) == "POST" || !body.empty()) {  // with a body; CUSTOMREQUEST names the method
    curl_easy_setopt(impl_->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(impl_->easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(impl_->easy, CURLOPT_POSTFIELDS, body.empty() ? "" : body.data());
  }
  return perform(method, path, content_type);
}

Result<Json> Client::call(const char* method, const std::string& path, const Json& body) {
  auto answer =
      body.is_null() ? request(method, path, "", "") : request(method, path, print_json(body), "application/json");
  if (!answer) return std::move(answer.error());
  return json_of(*answer);
}

Result<Json> Client::upload(const std::string& path, const std::string& file, const std::string& shown) {
  Upload up;
  up.fd = Fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat st{};
  if (!up.fd.valid() || ::fstat(up.fd.get(), &st) != 0) {
    return invalid("file_unreadable", "cannot read {}: {}", file, std::strerror(errno));
  }
  if (!S_ISREG(st.st_mode))
    return invalid("file_unreadable", "cannot upload {}: not a file; name the model's file", file);
  up.size = static_cast<std::uint64_t>(st.st_size);
  up.name = shown.empty() ? file : shown;
  up.start = Clock::now();
  up.terminal = ::isatty(STDERR_FILENO) == 1;
  CURL* h = impl_->easy;
  curl_easy_setopt(h, CURLOPT_POST, 1L);
  curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(st.st_size));
  curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
  curl_easy_setopt(h, CURLOPT_READDATA, &up);
  curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
  curl_easy_setopt(h, CURLOPT_SEEKDATA, &up);
  curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(h, CURLOPT_XFERINFODATA, &up);
  curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024L);
  auto answer = perform("POST", path, "application/octet-stream");
  if (up.drawn) fmt::print(stderr, "\r\033[K");
  if (!answer) return std::move(answer.error());
  return json_of(*answer);
}

Error error_from_answer(const Answer& answer) {
  const Json j = Json::parse(answer.body, nullptr, false);
  const Json& text = member(j, "error");
  const auto reason = answer.headers.find("mayfly-reason");
  Error e;
  e.code = code_for_status(answer.status);
  e.reason = reason != answer.headers.end() ? reason->second : std::string(code_name(e.code));
  e.message = text.is_string() ? text.get<std::string>()
                               : fmt::format("the server answered with HTTP status {}", answer.status);
  if (answer.status == 401) e.message += " (give a key by --key or MAYFLY_KEY)";
  return e;
}

std::string url_escape(std::string_view segment) {
  std::string out;
  for (const char c : segment) {
    const auto u = static_cast<unsigned char>(c);
    const bool plain = (u < 0x80 && std::isalnum(u)) || c == '-' || c == '_' || c == '.' || c == '~';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", u);
  }
  return out;
}

std::vector<std::pair<std::string, double>> parse_server_timing(std::string_view header) {
  std::vector<std::pair<std::string, double>> out;
  while (!header.empty()) {
    const auto comma = header.find(',');
    const std::string_view entry = header.substr(0, comma);
    header = comma == std::string_view::npos ? std::string_view() : header.substr(comma + 1);
    const auto at = entry.find(";dur=");
    if (at == std::string_view::npos) continue;
    const std::string_view number = trim(entry.substr(at + 5));
    double ms = 0;
    const auto r = std::from_chars(number.data(), number.data() + number.size(), ms);
    if (r.ec == std::errc()) out.emplace_back(printable(trim(entry.substr(0, entry.find(';')))), ms);
  }
  return out;
}

}  // namespace mayfly::cli
