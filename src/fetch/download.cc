#include "fetch/download.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <memory>
#include <optional>

#include "crypto/hash.h"

namespace mayfly {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kFirstPause{100};
constexpr int kPollMs = 100;
constexpr std::size_t kReadBack = 256 * 1024;
constexpr std::size_t kErrorBodyBytes = 2048;
constexpr std::uint64_t kOpenEnd = ~0ULL;

struct FreeEasy {
  void operator()(CURL* h) const { curl_easy_cleanup(h); }
};
struct FreeMulti {
  void operator()(CURLM* h) const { curl_multi_cleanup(h); }
};

Error disk_error(int err, std::string_view what) {
  if (err == ENOSPC || err == EDQUOT)
    return make_error(Code::kResourceExhausted, "disk_full", "{}: no space left; free space or delete endpoints", what);
  return errno_error(err, what);
}

class Download;

struct Part {
  Download* owner = nullptr;
  std::uint64_t begin = 0, end = 0;  // of the object; kOpenEnd: to its end
  std::uint64_t at = 0;              // the next byte that is missing
  std::uint64_t answer_end = 0;      // where the running answer ends by its own words
  std::uint32_t failures = 0;
  bool done = false, looked = false;  // looked: at the head of the running answer
  std::string error_body;
  std::optional<Error> error;  // found by a callback, which has then ended the exchange
  bool changed = false;        // the object is another one now
  Clock::time_point not_before{};
  std::unique_ptr<Exchange> exchange;
  std::unique_ptr<CURL, FreeEasy> easy;
};

class Download {
 public:
  Download(const Transport& transport, const DownloadRequest& request)
      : transport_(transport), rq_(request), url_(request.url), headers_(request.headers), sign_(request.sign) {}
  Result<Downloaded> run();
  std::size_t on_bytes(Part& p, const char* data, std::size_t n);
  bool on_head(Part& p) {
    if (!p.looked) look(p);
    return !p.error && !p.changed;
  }

 private:
  void begin_anew();
  Status launch_due();
  Status launch(Part& p);
  Status finish(CURL* easy, CURLcode code);
  Status finish_part(Part& p, CURLcode code);
  Status follow(Part& p);
  Status retry(Part& p, Error why);
  void look(Part& p);
  void look_at_range(Part& p, const ContentRange& range);
  void look_at_whole(Part& p);
  void make_parts();
  Status set_total(std::uint64_t total);
  Status hash_up_to_gap();
  Status check_end(Downloaded& out);
  bool all_done() const {
    return std::all_of(parts_.begin(), parts_.end(), [](const auto& p) { return p->done; });
  }
  static std::string identity_of(const Part& p) {
    return fmt::format("{}\n{}", header(p.exchange->headers, "etag"), header(p.exchange->headers, "last-modified"));
  }
  template <typename... A>
  void fail(Part& p, Code code, const char* reason, fmt::format_string<A...> f, A&&... a) {
    p.error = make_error(code, reason, f, std::forward<A>(a)...);
  }

  const Transport& transport_;
  const DownloadRequest& rq_;
  HttpUrl url_;
  std::vector<std::string> headers_;
  const S3Credentials* sign_;
  std::unique_ptr<CURLM, FreeMulti> multi_;
  std::vector<std::unique_ptr<Part>> parts_;
  std::optional<std::uint64_t> total_;
  std::string etag_;      // a strong one, for If-Match
  std::string identity_;  // what each answer must repeat
  bool whole_ = false;    // the server knows no ranges
  Sha256 hash_;
  std::uint64_t hashed_ = 0;
  std::uint32_t restarts_ = 0;
  int redirects_ = 0;
  Downloaded counts_;
  std::vector<char> buffer_;
};

bool head_is_complete(void* user) {
  auto& p = *static_cast<Part*>(user);
  return p.owner->on_head(p);
}

std::size_t on_body(char* data, std::size_t size, std::size_t n, void* user) {
  auto& p = *static_cast<Part*>(user);
  return p.owner->on_bytes(p, data, size * n);
}

void Download::begin_anew() {
  parts_.clear();  // their handles are out of multi_
  total_.reset();
  etag_.clear();
  hash_.restart();
  hashed_ = 0;
  auto first = std::make_unique<Part>();
  first->owner = this;
  first->end = whole_ ? kOpenEnd : rq_.bytes != 0 ? std::min(rq_.bytes, rq_.part_bytes) : rq_.part_bytes;
  parts_.push_back(std::move(first));
}

Status Download::set_total(std::uint64_t total) {
  total_ = total;
  if (total > rq_.max_bytes)
    return make_error(Code::kResourceExhausted, "payload_too_large", "{} has {} bytes; the limit is {}", rq_.shown,
                      total, rq_.max_bytes);
  if (rq_.bytes != 0 && total != rq_.bytes)
    return invalid("source_length_mismatch", "{} has {} bytes, but {} were announced", rq_.shown, total, rq_.bytes);
  if (total == 0) return invalid("source_empty", "{} is empty", rq_.shown);
  // Room for all of it at once: a disk that is full says so now, and parts may be written in any order.
  if (::fallocate(rq_.fd, 0, 0, static_cast<off_t>(total)) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
    return disk_error(errno, fmt::format("make room for {} bytes of {}", total, rq_.shown));
  return Ok{};
}

// The head of an answer says which bytes follow. p.error or p.changed: they are not the ones that were asked for.
void Download::look(Part& p) {
  p.looked = true;
  const int status = p.exchange->status;
  if (status == 206) {
    auto range = parse_content_range(header(p.exchange->headers, "content-range"));
    if (!range.ok())
      return fail(p, Code::kInvalidArgument, "source_length_mismatch", "{}: {}", rq_.shown, range.error().message);
    look_at_range(p, *range);
  } else if (status == 200) {
    look_at_whole(p);
  } else if (status == 412) {
    p.changed = true;
  } else if (status == 416 && p.begin == 0 && p.at == 0 &&
             header(p.exchange->headers, "content-range") == "bytes */0") {
    fail(p, Code::kInvalidArgument, "source_empty", "{} is empty", rq_.shown);
  } else if (status == 416 && !total_) {  // some refuse a range that ends behind the object's end
    whole_ = p.changed = true;
  } else if (status == 416) {
    fail(p, Code::kInvalidArgument, "source_length_mismatch", "{} has no byte {}, but said that it has {}", rq_.shown,
         p.at, total_.value_or(0));
  }
  const std::string_view encoding = header(p.exchange->headers, "content-encoding");
  if ((status == 200 || status == 206) && !encoding.empty() && encoding != "identity")
    fail(p, Code::kInvalidArgument, "source_unsupported", "{} is sent in the encoding \"{}\", which was not asked for",
         rq_.shown, encoding);
}

void Download::look_at_range(Part& p, const ContentRange& range) {
  if (range.first != p.at || range.last < range.first || range.last >= p.end ||
      range.total == ContentRange::kUnknownTotal || range.last >= range.total) {
    return fail(p, Code::kInvalidArgument, "source_length_mismatch",
                "{}: asked for bytes {} to {}, the answer is of {} to {} of {}", rq_.shown, p.at, p.end - 1,
                range.first, range.last, range.total);
  }
  if (!total_) {
    identity_ = identity_of(p);
    const std::string_view etag = header(p.exchange->headers, "etag");
    if (!etag.starts_with("W/")) etag_ = etag;  // a weak one names no bytes
    if (Status st = set_total(range.total); !st.ok()) p.error = std::move(st.error());
    p.end = std::min(p.end, range.total);
    if (!p.error) make_parts();
  } else if (range.total != *total_ || identity_of(p) != identity_) {
    p.changed = true;
  }
  p.answer_end = range.last + 1;
}

// What follows the first part.
void Download::make_parts() {
  for (std::uint64_t from = parts_[0]->end; from < *total_; from += rq_.part_bytes) {
    auto p = std::make_unique<Part>();
    p->owner = this;
    p->begin = p->at = from;
    p->end = std::min(from + rq_.part_bytes, *total_);
    parts_.push_back(std::move(p));
  }
}

// An answer with the whole object, from its first byte.
void Download::look_at_whole(Part& p) {
  if (p.begin != 0 || p.at != 0) {
    whole_ = p.changed = true;  // it gave ranges and does no longer
    return;
  }
  whole_ = true;
  const std::string_view length = header(p.exchange->headers, "content-length");
  std::uint64_t total = 0;
  const auto [end, ec] = std::from_chars(length.data(), length.data() + length.size(), total);
  p.end = p.answer_end = kOpenEnd;
  if (length.empty()) return;
  if (ec != std::errc() || end != length.data() + length.size())
    return fail(p, Code::kInvalidArgument, "source_length_mismatch", "{}: \"{}\" is no length", rq_.shown, length);
  if (Status st = set_total(total); !st.ok()) p.error = std::move(st.error());
  p.end = p.answer_end = total;
}

std::size_t Download::on_bytes(Part& p, const char* data, std::size_t n) {
  if (!on_head(p)) return 0;
  if (p.exchange->status != 200 && p.exchange->status != 206) {
    p.error_body.append(data, std::min(n, kErrorBodyBytes - std::min(kErrorBodyBytes, p.error_body.size())));
    return p.error_body.size() < kErrorBodyBytes ? n : 0;
  }
  if (n > p.answer_end - p.at) {
    fail(p, Code::kInvalidArgument, "source_length_mismatch", "{} sends more than the {} bytes that it announced",
         rq_.shown, p.answer_end);
    return 0;
  }
  if (n > rq_.max_bytes - std::min(rq_.max_bytes, p.at)) {
    fail(p, Code::kResourceExhausted, "payload_too_large", "{} has more than the limit of {} bytes", rq_.shown,
         rq_.max_bytes);
    return 0;
  }
  for (std::size_t done = 0; done < n;) {
    const ssize_t wrote = ::pwrite(rq_.fd, data + done, n - done, static_cast<off_t>(p.at + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      p.error = disk_error(errno, fmt::format("write {}", rq_.shown));
      return 0;
    }
    done += static_cast<std::size_t>(wrote);
  }
  if (p.at == hashed_) {  // still in the cache of the processor
    hash_.update(std::span(data, n));
    hashed_ += n;
  }
  p.at += n;
  return n;
}

// Parts that came before their turn are read back once the gap before them is closed.
Status Download::hash_up_to_gap() {
  buffer_.resize(kReadBack);
  for (const auto& p : parts_) {
    while (p->begin <= hashed_ && hashed_ < p->at) {
      const std::size_t want = std::min<std::uint64_t>(kReadBack, p->at - hashed_);
      const ssize_t got = ::pread(rq_.fd, buffer_.data(), want, static_cast<off_t>(hashed_));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return errno_error(got < 0 ? errno : EIO, fmt::format("read back {}", rq_.shown));
      hash_.update(std::span(buffer_).first(static_cast<std::size_t>(got)));
      hashed_ += static_cast<std::uint64_t>(got);
    }
  }
  return Ok{};
}

Status Download::launch(Part& p) {
  p.exchange = std::make_unique<Exchange>();
  p.easy.reset(curl_easy_init());
  if (!p.easy) return make_error(Code::kInternal, "system_call_failed", "cannot set up libcurl");
  p.looked = false;
  p.error_body.clear();
  p.error.reset();
  p.answer_end = p.end;
  HttpRequest rq;
  rq.url = url_;
  rq.headers = headers_;
  rq.sign = sign_;
  if (whole_)
    p.at = 0;
  else
    rq.headers.push_back(fmt::format("Range: bytes={}-{}", p.at, p.end - 1));
  if (!etag_.empty() && total_) rq.headers.push_back("If-Match: " + etag_);
  MAYFLY_TRY(transport_.prepare(p.easy.get(), rq, *p.exchange));
  p.exchange->on_head = head_is_complete;
  p.exchange->on_head_for = &p;
  curl_easy_setopt(p.easy.get(), CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(p.easy.get(), CURLOPT_WRITEDATA, &p);
  curl_easy_setopt(p.easy.get(), CURLOPT_PRIVATE, &p);
  curl_multi_add_handle(multi_.get(), p.easy.get());
  ++counts_.requests;
  return Ok{};
}

Status Download::launch_due() {
  std::uint32_t running = 0;
  for (const auto& p : parts_) running += p->easy ? 1 : 0;
  const auto now = Clock::now();
  for (const auto& p : parts_) {
    if (running >= rq_.parts_at_once) break;
    if (p->done || p->easy || now < p->not_before) continue;
    MAYFLY_TRY(launch(*p));
    ++running;
  }
  return Ok{};
}

Status Download::retry(Part& p, Error why) {
  if (++p.failures > kPartRetries) return why;
  ++counts_.retries;
  p.not_before = Clock::now() + kFirstPause * (1 << p.failures);
  if (whole_) {  // nothing can be asked for but all of it
    const std::uint32_t failures = p.failures;
    const auto not_before = p.not_before;
    begin_anew();
    parts_[0]->failures = failures;
    parts_[0]->not_before = not_before;
  }
  return Ok{};
}

Status Download::follow(Part& p) {
  const std::string location(header(p.exchange->headers, "location"));
  if (location.empty()) return status_error(p.exchange->status, rq_.shown);
  if (++redirects_ > kMaxRedirects)
    return invalid("source_unsupported", "{} redirects more than {} times", rq_.shown, kMaxRedirects);
  auto next = resolve_redirect(url_, location);
  if (!next.ok()) return std::move(next.error());
  if (!same_origin(*next, url_)) {
    headers_.clear();
    sign_ = nullptr;
  }
  url_ = std::move(*next);
  return Ok{};
}

Status Download::finish(CURL* easy, CURLcode code) {
  Part* p = nullptr;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &p);
  curl_multi_remove_handle(multi_.get(), easy);
  p->easy.reset();
  if (code == CURLE_OK && !p->looked) look(*p);
  if (p->changed) {
    for (const auto& other : parts_) {
      if (other->easy) curl_multi_remove_handle(multi_.get(), other->easy.get());
    }
    if (++restarts_ > kRestarts)
      return make_error(Code::kAborted, "source_changed", "{} changed while it was read, {} times", rq_.shown,
                        restarts_);
    begin_anew();
    return Ok{};
  }
  return finish_part(*p, code);
}

Status Download::finish_part(Part& p, CURLcode code) {
  if (p.error) return *p.error;
  const int status = p.exchange->status;
  const bool content = p.looked && (status == 200 || status == 206);
  if (code != CURLE_OK && (content || status == 0 || p.error_body.empty())) {
    Error why = Transport::describe(code, *p.exchange);
    if (code == CURLE_PARTIAL_FILE)
      why = make_error(Code::kUnavailable, "source_truncated", "{} ended after {} bytes of {}", rq_.shown, p.at,
                       total_.value_or(p.at));
    if (!p.exchange->denied.empty() || !Transport::may_pass(code)) return why;
    return retry(p, std::move(why));
  }
  if (status >= 300 && status < 400) return follow(p);
  if (!content) {
    Error why = status_error(status, rq_.shown, p.error_body);
    return status_may_pass(status) ? retry(p, std::move(why)) : Status(std::move(why));
  }
  if (!total_) {  // no length was announced, and the answer has ended in order
    MAYFLY_TRY(set_total(p.at));
    p.end = p.at;
  }
  p.done = p.at == p.end;
  if (p.done) return Ok{};
  return retry(
      p, make_error(Code::kUnavailable, "source_truncated", "{} ended after {} bytes of {}", rq_.shown, p.at, *total_));
}

Status Download::check_end(Downloaded& out) {
  MAYFLY_TRY(hash_up_to_gap());
  MAYFLY_CHECK(hashed_ == *total_);
  if (::ftruncate(rq_.fd, static_cast<off_t>(*total_)) != 0)
    return disk_error(errno, fmt::format("write {}", rq_.shown));
  out = counts_;
  out.bytes = *total_;
  out.sha256 = hash_.hex_digest();
  if (!rq_.sha256.empty() && out.sha256 != rq_.sha256) {
    return invalid("digest_mismatch", "{} has the sha256 {}, but {} was asked for: it is not what it should be",
                   rq_.shown, out.sha256, rq_.sha256);
  }
  return Ok{};
}

Result<Downloaded> Download::run() {
  multi_.reset(curl_multi_init());
  if (!multi_) return make_error(Code::kInternal, "system_call_failed", "cannot set up libcurl");
  const auto until = Clock::now() + std::chrono::milliseconds(transport_.options().deadline_ms);
  begin_anew();
  while (!all_done()) {
    if (rq_.cancelled != nullptr && rq_.cancelled->load())
      return make_error(Code::kCancelled, "cancelled", "reading {} was given up", rq_.shown);
    if (Clock::now() > until)
      return make_error(Code::kUnavailable, "source_stalled", "{} was not read within {} s", rq_.shown,
                        transport_.options().deadline_ms / 1000);
    MAYFLY_TRY(launch_due());
    int running = 0, left = 0;
    curl_multi_perform(multi_.get(), &running);
    while (CURLMsg* m = curl_multi_info_read(multi_.get(), &left)) {
      if (m->msg == CURLMSG_DONE) MAYFLY_TRY(finish(m->easy_handle, m->data.result));
    }
    MAYFLY_TRY(hash_up_to_gap());
    if (!all_done()) curl_multi_poll(multi_.get(), nullptr, 0, kPollMs, nullptr);
  }
  Downloaded out;
  MAYFLY_TRY(check_end(out));
  return out;
}

}  // namespace

Result<ContentRange> parse_content_range(std::string_view text) {
  ContentRange out;
  const auto number = [&text](std::uint64_t& n) {
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (ec != std::errc()) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
  };
  const auto word = [&text](std::string_view w) {
    if (!text.starts_with(w)) return false;
    text.remove_prefix(w.size());
    return true;
  };
  const std::string_view given = text.substr(0, 100);
  if (word("bytes ") && number(out.first) && word("-") && number(out.last) && word("/") &&
      (word("*") || number(out.total)) && text.empty())
    return out;
  return invalid("source_length_mismatch", "\"{}\" is no Content-Range", given);
}

Result<Downloaded> download(const Transport& transport, const DownloadRequest& request) {
  return Download(transport, request).run();
}

}  // namespace mayfly
