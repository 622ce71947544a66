#include "gateway/http1/connection.h"

#include <algorithm>
#include <iterator>

#include "base/text.h"
#include "gateway/wire/rules.h"

namespace mayfly::http1 {
namespace {

constexpr std::size_t kReadBytes = 16 * 1024;
constexpr std::size_t kInPlaceBodyBytes = 64 * 1024;  // bodies up to this follow their head in one buffer
constexpr std::size_t kCoalesceBodyBytes = 16 * 1024;
constexpr std::size_t kCoalesceBytes = 64 * 1024;
constexpr std::size_t kDrainBytes = 64 * 1024;  // of a refused body, to keep the connection
constexpr std::size_t kKeepBytes = 1024 * 1024;

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Content";
    case 424:
      return "Failed Dependency";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 507:
      return "Insufficient Storage";
    default:
      return "Status";
  }
}

Connection::Connection(std::shared_ptr<Core> core, wire::Stream stream, Buffer first, std::uint64_t head_deadline)
    : core_(std::move(core)),
      stream_(std::move(stream)),
      place_(*core_, this),
      parser_(core_->limits.max_head_bytes),
      in_(std::move(first)),
      head_deadline_(head_deadline),
      idle_(in_.empty()) {}

Connection::~Connection() { core_->free(body_); }

Task<Ok> Connection::run(std::shared_ptr<Connection> self) {
  for (;;) {
    if (!co_await self->read_head()) break;
    if (!co_await self->serve_request()) break;
  }
  if (!self->broken_ && !self->out_.empty()) static_cast<void>(co_await self->send({}));
  // An idle connection has nothing on its way that closing could destroy.
  if (self->answered_ && !self->idle_ && !self->broken_) static_cast<void>(co_await self->linger());
  self->abort();
  co_return Ok{};
}

Task<bool> Connection::read_head() {
  parser_.reset();
  head_known_ = false;
  if (in_.empty()) in_.rewind(0);
  for (;;) {
    if (!in_.empty()) {
      auto whole = parser_.scan(in_.view());
      Status parsed = Ok{};
      if (!whole.ok()) parsed = whole.error();
      if (whole.ok() && *whole) {
        parsed = parser_.parse(in_.view());
        if (parsed.ok()) parsed = make_space_for_body();
        if (parsed.ok()) {
          head_deadline_ = 0;
          co_return true;
        }
      }
      if (!parsed.ok()) co_return co_await answer_error(parsed.error());
      if (head_deadline_ == 0) head_deadline_ = core_->due_in(core_->limits.head_timeout);
    }
    if (!out_.empty() && !co_await send({})) co_return false;
    idle_ = in_.empty();
    if (closing_ || broken_ || (idle_ && core_->draining)) co_return false;
    if (in_.tail().size() < kReadBytes / 4) in_.make_room(kReadBytes);
    deadline_ = idle_ ? core_->due_in(core_->limits.keep_alive_timeout) : head_deadline_;
    expired_ = false;
    const auto tail = in_.tail();
    auto [ec, n] = co_await stream_.read_some(tail);
    deadline_ = UINT64_MAX;
    if (ec) {
      if (!expired_ || idle_ || broken_) co_return false;
      const auto ms = core_->limits.head_timeout.count();
      const Error late = make_error(Code::kDeadlineExceeded, "head_timeout",
                                    "the request head did not arrive within {} ms; send it at once", ms);
      co_return co_await answer_error(late);
    }
    idle_ = false;
    in_.commit(n);
  }
}

// A small body is read in place after its head, so the buffer has to hold both before anyone gets views of the head.
Status Connection::make_space_for_body() {
  const RequestHead& head = parser_.head();
  const std::uint64_t length = head.chunked ? kInPlaceBodyBytes : head.content_length.value_or(0);
  const std::size_t need =
      parser_.head_size() + static_cast<std::size_t>(std::min<std::uint64_t>(length, kInPlaceBodyBytes));
  if (need <= in_.size() + in_.tail().size()) return Ok{};
  in_.make_room(need - in_.size());
  return parser_.parse(in_.view());
}

Task<bool> Connection::serve_request() {
  const RequestHead& head = parser_.head();
  head_known_ = true;
  Request request;
  request.head = &head;
  request.received_ns = now_ns();
  request.loopback = stream_.loopback();
  request.peer = stream_.peer();
  request.writer = this;
  request.cancel = &cancel_;
  in_.consume(parser_.head_size());
  body_start_ = in_.begin();
  want_continue_ = head.expect_continue;
  void* cookie = nullptr;
  BodyPolicy policy = core_->handler.on_head(request, cookie);
  if (policy.refuse) co_return co_await refuse(*policy.refuse, policy.refuse_headers);
  const Error refusal = wire::transport_refusal(head, policy);
  if (refusal.code != Code::kOk) {
    core_->handler.on_abort(cookie);
    co_return co_await refuse(refusal);
  }
  decoder_.begin(head, policy.max_bytes);
  caller_ = policy.caller == 0 ? stream_.peer() : wire::key_caller(policy.caller);
  body_deadline_ = policy.deadline_ns == 0 ? UINT64_MAX : policy.deadline_ns;
  if (policy.streaming) {
    request.reader = this;
  } else if (head.chunked || head.content_length.value_or(0) > 0) {
    const BodyEnd end = co_await read_body(policy, cookie, request);
    if (end != BodyEnd::kRead) co_return false;
  }
  response_.reset();
  begun_ = false;
  cancel_.reset();
  handling_since_ = request.received_ns;
  static_cast<void>(co_await core_->handler.handle(request, cookie, response_));
  handling_since_ = UINT64_MAX;
  body_deadline_ = UINT64_MAX;
  bool keep = head.keep_alive && !response_.close;
  std::uint64_t unread = 0;
  if (request.reader != nullptr) {
    unread = unread_body();
    keep = keep && unread <= kDrainBytes && (unread == 0 || !want_continue_);
  }
  if (begun_ ? !co_await end_pieces(keep) : !co_await answer(keep)) co_return false;
  if (unread > 0 && !co_await discard(unread)) co_return false;
  trim();
  co_return true;
}

// Reads the whole body for a handler that wants it so; errors are answered here.
Task<Connection::BodyEnd> Connection::read_body(const BodyPolicy& policy, void* cookie, Request& request) {
  const RequestHead& head = parser_.head();
  const std::uint64_t length = head.content_length.value_or(0);
  if (!head.chunked && head.encoding == RequestHead::Encoding::kIdentity && in_.size() >= length) {
    request.body = in_.view().substr(0, static_cast<std::size_t>(length));
    in_.consume(request.body.size());
    co_return BodyEnd::kRead;
  }
  if (!co_await send_continue()) {
    core_->handler.on_abort(cookie);
    co_return BodyEnd::kGone;
  }
  Result<std::string_view> body = std::string_view();
  if (!head.chunked && head.encoding == RequestHead::Encoding::kIdentity) {
    body = co_await read_identity_body(length);
  } else {
    body = co_await read_decoded_body(policy.max_bytes);
  }
  if (body.ok()) {
    request.body = *body;
    co_return BodyEnd::kRead;
  }
  core_->handler.on_abort(cookie);
  if (body.error().code == Code::kCancelled) co_return BodyEnd::kGone;
  co_await answer_error(body.error());
  co_return BodyEnd::kAnswered;
}

// Raw bytes a streaming handler left; a number too large to drain if that can't be told.
std::uint64_t Connection::unread_body() {
  // A handler that knows the length of what it reads does not ask for the last, empty chunk.
  if (!decoder_.raw_remaining()) {
    auto piece = decoder_.step(in_.view());
    if (piece.ok() && piece->data.empty()) in_.consume(piece->consumed);
    if (!piece.ok() || !piece->data.empty()) return UINT64_MAX;
  }
  return decoder_.raw_remaining().value_or(UINT64_MAX);
}

// Answers without a look at the body. The connection is kept if the rest of the body is small and surely coming.
Task<bool> Connection::refuse(const Error& error, std::string_view headers) {
  const RequestHead& head = parser_.head();
  const std::uint64_t length = head.content_length.value_or(0);
  const bool waits_for_us = want_continue_ && length > in_.size();
  const bool keep = head.keep_alive && !head.chunked && length <= kDrainBytes && !waits_for_us;
  set_error(error);
  response_.headers.append(headers);
  body_deadline_ = UINT64_MAX;
  if (!co_await answer(keep && !response_.close)) co_return false;
  if (!co_await discard(length)) co_return false;
  trim();
  co_return true;
}

// The last answer of a connection whose input can't be made sense of.
Task<bool> Connection::answer_error(const Error& error) {
  set_error(error);
  co_await answer(false);
  co_return false;
}

void Connection::set_error(const Error& error) {
  response_.reset();
  core_->handler.render_error(error, head_known_ ? &parser_.head() : nullptr, response_);
  const int status = wire::transport_status(error);
  if (status != 0) response_.status = status;
}

// Queues the answer in response_, and sends it unless another request is already here. Returns whether the connection
// goes on.
Task<bool> Connection::answer(bool keep) {
  keep = keep && !core_->draining && !closing_ && !broken_;
  const bool bodiless = parser_.head().method == Method::kHead || response_.status == 204 || response_.status == 304;
  append_answer_head(keep, bodiless);
  answered_ = true;
  const std::string_view body = bodiless ? std::string_view() : std::string_view(response_.body);
  if (keep && !in_.empty() && body.size() <= kCoalesceBodyBytes && out_.size() < kCoalesceBytes) {
    out_.append(body);
    post_flush();
    co_return true;
  }
  if (!co_await send(body)) co_return false;
  co_return keep;
}

void Connection::append_answer_head(bool keep, bool bodiless) {
  const int status = response_.status;
  if (status == 200)
    out_.append("HTTP/1.1 200 OK\r\n");
  else
    fmt::format_to(std::back_inserter(out_), "HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
  if (status != 204 && status != 304) {
    if (!response_.content_type.empty() && !(bodiless && response_.body.empty())) {
      out_.append("Content-Type: ").append(response_.content_type).append("\r\n");
    }
    out_.append("Content-Length: ");
    append_number(out_, response_.body.size());
    out_.append("\r\n");
  }
  out_.append(core_->date_line).append(response_.headers);
  if (!keep) {
    out_.append("Connection: close\r\n");
  } else if (parser_.http_1_0()) {
    out_.append("Connection: keep-alive\r\n");
  }
  out_.append("\r\n");
}

// The head of an answer whose length nobody knows yet: chunked, or, for HTTP/1.0, up to the end of the connection.
Task<bool> Connection::begin(const Response& response) {
  begun_ = answered_ = true;
  chunked_ = !parser_.http_1_0();
  if (broken_) co_return false;
  fmt::format_to(std::back_inserter(out_), "HTTP/1.1 {} {}\r\nContent-Type: {}\r\n{}{}{}\r\n", response.status,
                 reason_phrase(response.status), response.content_type,
                 chunked_ ? "Transfer-Encoding: chunked\r\n" : "Connection: close\r\n", core_->date_line,
                 response.headers);
  co_return co_await send({});
}

Task<bool> Connection::write(std::string_view piece) {
  if (piece.empty()) co_return !broken_;
  if (parser_.head().method == Method::kHead) co_return !broken_;
  if (!chunked_) co_return co_await send(piece);
  fmt::format_to(std::back_inserter(out_), "{:x}\r\n", piece.size());
  out_.append(piece).append("\r\n");
  co_return co_await send({});
}

Task<bool> Connection::end_pieces(bool keep) {
  if (chunked_ && parser_.head().method != Method::kHead) out_.append("0\r\n\r\n");
  if (!co_await send({})) co_return false;
  co_return keep&& chunked_ && !core_->draining && !closing_ && !broken_;
}

Task<bool> Connection::discard(std::uint64_t n) {
  for (;;) {
    const auto have = static_cast<std::size_t>(std::min<std::uint64_t>(n, in_.size()));
    in_.consume(have);
    n -= have;
    if (n == 0) co_return true;
    auto got = co_await fill();
    if (!got.ok()) co_return false;
  }
}

// Gives back what a large request took; all of it where the connections' memory is half used.
void Connection::trim() {
  if (body_.capacity() > kKeepBytes || core_->memory_is_short()) core_->free(body_);
  if (response_.body.capacity() > kKeepBytes) std::string().swap(response_.body);
  if (response_.headers.capacity() > kKeepBytes) std::string().swap(response_.headers);
}

}  // namespace mayfly::http1
