// One HTTP exchange by libcurl, as all fetches make them: the policy checked for each socket, no redirect followed
// unseen, no proxy, no unbounded wait, optionally signed for S3 (SigV4). Blocks: run it on a pool for fetches. A
// Transport is immutable and may be used by several threads; a Connection is one thread's.
//
// Errors: source_not_allowed, source_unavailable (nobody answers, TLS that can't be trusted, an exchange that broke),
// source_stalled. An answer of any status is a success here; status_error() says what it means.
#pragma once
#include <curl/curl.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fetch/policy.h"
#include "fetch/source.h"

namespace mayfly {

struct S3Credentials {
  std::string access_key, secret_key, session_token;  // none: requests are not signed
  std::string region = "us-east-1";
};

struct TransportOptions {
  SourcePolicy policy;
  std::string ca_pem;  // authorities; empty: the system's
  std::uint64_t connect_timeout_ms = 10'000;
  std::uint64_t stall_ms = 10'000;       // an exchange slower than kStallBytes a second for as long has stalled
  std::uint64_t deadline_ms = 3600'000;  // of one fetch, all its retries included
};

inline constexpr long kStallBytes = 1024;
inline constexpr std::size_t kMaxAnswerHeaders = 128;
inline constexpr int kMaxRedirects = 5;

using Headers = std::map<std::string, std::string>;  // names in lower case

struct HttpRequest {
  const char* method = "GET";
  HttpUrl url;
  std::vector<std::string> headers;     // "Name: value"
  const S3Credentials* sign = nullptr;  // borrowed for the exchange
  int body_fd = -1;                     // body of a PUT: body_bytes of this file, from body_from on
  std::uint64_t body_bytes = 0, body_from = 0;
  std::string_view text;  // body of a POST; borrowed for the exchange
};

struct HttpAnswer {
  int status = 0;
  Headers headers;
  std::string body;
};

// What the callbacks of one exchange write down. It must stay where it is while the exchange runs.
struct Exchange {
  const SourcePolicy* policy = nullptr;
  HttpUrl url;
  Headers headers;
  int status = 0;
  std::string denied;  // the address that the policy refused
  std::uint64_t body_from = 0, body_at = 0, body_end = 0;
  int body_fd = -1;
  bool (*on_head)(void*) = nullptr;  // called when the head of an answer is complete; false ends the exchange
  void* on_head_for = nullptr;
  curl_slist* sent = nullptr;
  char detail[CURL_ERROR_SIZE] = {};
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() { curl_slist_free_all(sent); }
};

class Transport {
 public:
  static void global_init();  // once, before threads
  explicit Transport(TransportOptions options) : options_(std::move(options)) {}
  // Sets up `easy` for the exchange; the caller sets where the body goes. Errors: source_not_allowed.
  Status prepare(CURL* easy, const HttpRequest& request, Exchange& exchange) const;
  // What a failed exchange is; `code` is not CURLE_OK.
  static Error describe(CURLcode code, const Exchange& exchange);
  // Whether trying again may help.
  static bool may_pass(CURLcode code);
  // A whole exchange whose answer has at most max_bytes (source_unsupported); redirects of GET are followed within the
  // policy, without the headers and the signature where they leave the host. Tried again up to three times.
  Result<HttpAnswer> exchange(const HttpRequest& request, std::size_t max_bytes) const;
  const TransportOptions& options() const { return options_; }

 private:
  Result<HttpAnswer> exchange_once(const HttpRequest& request, std::size_t max_bytes, bool& again) const;
  TransportOptions options_;
};

// What an answer's body says in short, in brackets: of an S3 error its code, else the first line. Empty if it is empty.
std::string gist(std::string_view body);
bool status_may_pass(int status);  // 408, 425, 429, 5xx
// source_not_found, source_refused, source_unavailable: of an answer other than 2xx. `body`: its beginning.
Error status_error(int status, std::string_view shown, std::string_view body = {});
bool same_origin(const HttpUrl& a, const HttpUrl& b);
std::string_view header(const Headers& headers, const char* name);

}  // namespace mayfly
