// The request side of Stream: head, body, time limits, the handler's coroutine.
#include "gateway/http2/stream.h"

#include <algorithm>
#include <charconv>

#include "gateway/http2/session.h"
#include "gateway/wire/rules.h"

namespace mayfly::http2 {
namespace {

constexpr std::uint64_t kFirstBodyBytes = 64 * 1024;  // an announced length alone takes no more memory
constexpr std::size_t kKeepBytes = 16 * 1024;         // of each buffer, from one request to the next
constexpr std::size_t kFieldOverhead = 32;            // RFC 9113 section 6.5.2

Error none() { return Error{Code::kOk, {}, {}}; }

Error malformed(const char* what) {
  return invalid("malformed_request", "cannot read the request head: {}; send a request as RFC 9113 has it", what);
}

void shrink(std::string& s) {
  if (s.capacity() > kKeepBytes) std::string().swap(s);
}

}  // namespace

Stream::~Stream() {
  session_.core_->free(body_);
  session_.core_->free(reading_);
}

void Stream::open(std::int32_t id) {
  id_ = id;
  due_ = session_.core_->due_in(session_.core_->limits.head_timeout);
}

void Stream::reset() {
  wire::Core& core = *session_.core_;
  for (wire::Buffer* b : {&body_, &reading_}) {
    if (b->capacity() > kKeepBytes || core.memory_is_short()) core.free(*b);
    b->rewind(0);
  }
  if (out_.capacity() > kKeepBytes) out_.free();
  out_.rewind(0);
  for (std::string* s : {&text_, &response_.headers, &response_.body, &response_.trailers}) shrink(*s);
  text_.clear();
  spans_.clear();
  wire::clear_head(head_);
  inflater_.reset();
  read_error_.reset();
  response_.reset();
  cancel_.reset();
  request_ = Request{};
  state_ = State::kHead;
  cookie_ = nullptr;
  deadline_ = due_ = UINT64_MAX;
  head_bytes_ = sent_ = 0;
  raw_bytes_ = decoded_bytes_ = progress_ns_ = 0;
  too_many_ = may_pause_ = streaming_ = want_continue_ = remote_ended_ = false;
  begun_ = ended_ = deferred_ = head_request_ = submitted_ = running_ = closed_ = false;
}

bool Stream::add_field(std::string_view name, std::string_view value) {
  const std::size_t limit = session_.core_->limits.max_head_bytes;
  head_bytes_ += name.size() + value.size() + kFieldOverhead;
  if (state_ != State::kHead) return head_bytes_ <= limit;    // trailers: nobody asks for them
  too_many_ = too_many_ || spans_.size() == kMaxHeaders + 4;  // and the four that begin with a colon
  if (head_bytes_ > limit || too_many_) return head_bytes_ <= 2 * limit;
  const auto at = static_cast<std::uint32_t>(text_.size());
  text_.append(name).append(value);
  spans_.push_back({at, static_cast<std::uint32_t>(name.size()), at + static_cast<std::uint32_t>(name.size()),
                    static_cast<std::uint32_t>(value.size())});
  return true;
}

bool Stream::head_is_late(std::uint64_t now) const { return state_ == State::kHead && now >= due_; }

// Everything but the pseudo fields is a header; nghttp2 has checked what RFC 9113 section 8 asks of both.
Error Stream::read_head() {
  const std::size_t limit = session_.core_->limits.max_head_bytes;
  if (head_bytes_ > limit) {
    return invalid("head_too_large",
                   "the request head is larger than the limit of {} bytes; send fewer or shorter header fields", limit);
  }
  std::string_view authority;
  head_.headers.clear();
  head_.headers.push_back({"host", {}});
  for (const Span& s : spans_) {
    const std::string_view name(text_.data() + s.name, s.name_size), value(text_.data() + s.value, s.value_size);
    if (name == ":authority" || (name == "host" && authority.empty())) {
      authority = value;
    } else if (name != "host") {
      if (Error e = read_field(name, value); e.code != Code::kOk) return e;
    }
  }
  if (too_many_ || head_.headers.size() > kMaxHeaders) {
    return invalid("head_too_large", "the request head has more than {} header fields; send fewer", kMaxHeaders);
  }
  head_.headers.front().value = authority;
  if (head_.target.empty() || !wire::is_target(head_.target)) {
    return malformed("the target is empty or has characters that must be percent-encoded");
  }
  if (head_.target == "*") {
    head_.path = head_.target;
  } else {
    wire::split_target(head_.target, head_);
  }
  return none();
}

Error Stream::read_field(std::string_view name, std::string_view value) {
  if (name.front() == ':') {
    if (name == ":method") {
      head_.method_text = value;
      head_.method = wire::method_of(value);
    } else if (name == ":path") {
      head_.target = value;
    }
    return none();
  }
  head_.headers.push_back({name, value});
  if (name == "content-length") {
    std::uint64_t n = 0;
    const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (ec != std::errc() || end != value.data() + value.size()) return malformed("the content-length is not a number");
    head_.content_length = n;
  } else if (name == "content-encoding") {
    head_.encoding = head_.encoding == RequestHead::Encoding::kIdentity ? wire::encoding_of(value)
                                                                        : RequestHead::Encoding::kUnsupported;
  } else if (name == "expect" && iequals(value, "100-continue")) {
    head_.expect_continue = true;
  }
  return none();
}

void Stream::on_head(bool has_body) {
  wire::Core& core = *session_.core_;
  remote_ended_ = !has_body;
  due_ = UINT64_MAX;
  state_ = State::kAnswering;
  if (const Error e = read_head(); e.code != Code::kOk) {
    wire::clear_head(head_);
    return answer_error(e);
  }
  head_request_ = head_.method == Method::kHead;
  head_.chunked = has_body && !head_.content_length;  // its length is not known
  request_.head = &head_;
  request_.received_ns = now_ns();
  request_.loopback = session_.loopback_;
  request_.peer = session_.peer_;
  request_.writer = this;
  request_.cancel = &cancel_;
  request_.http_major = 2;
  BodyPolicy policy = core.handler.on_head(request_, cookie_);
  if (policy.refuse) {
    cookie_ = nullptr;
    return answer_error(*policy.refuse, policy.refuse_headers);
  }
  if (const Error e = wire::transport_refusal(head_, policy); e.code != Code::kOk) return fail(e);
  max_bytes_ = policy.max_bytes;
  caller_ = policy.caller == 0 ? session_.peer_ : wire::key_caller(policy.caller);
  deadline_ = policy.deadline_ns == 0 ? UINT64_MAX : policy.deadline_ns;
  may_pause_ = policy.may_pause;
  streaming_ = policy.streaming;
  want_continue_ = head_.expect_continue && has_body;
  if (streaming_) request_.reader = this;
  if (streaming_ || !has_body) return start();
  state_ = State::kBody;
  due_ = core.due_in(core.limits.body_timeout);
  send_continue();
}

void Stream::start() {
  state_ = State::kReady;
  running_ = true;
  session_.ready_.push_back(this);
}

void Stream::send_continue() {
  if (!want_continue_) return;
  want_continue_ = false;
  nghttp2_nv status{};
  status.name = reinterpret_cast<std::uint8_t*>(const_cast<char*>(":status"));
  status.namelen = 7;
  status.value = reinterpret_cast<std::uint8_t*>(const_cast<char*>("100"));
  status.valuelen = 3;
  nghttp2_submit_headers(session_.h2_, NGHTTP2_FLAG_NONE, id_, nullptr, &status, 1, nullptr);
  session_.output();
}

void Stream::on_data(std::string_view bytes) {
  want_continue_ = false;  // a client that sends does not wait
  if (state_ == State::kBody) {
    nghttp2_session_consume(session_.h2_, id_, bytes.size());
    due_ = session_.core_->due_in(session_.core_->limits.body_timeout);
    if (auto st = append(bytes); !st.ok()) fail(st.error());
    return;
  }
  const bool wanted = streaming_ && running_ && !read_error_;
  if (!wanted) {
    nghttp2_session_consume(session_.h2_, id_, bytes.size());
    return;
  }
  if (body_.tail().size() < bytes.size()) {
    const std::uint64_t need = body_.size() + bytes.size();
    auto st =
        session_.core_->grow(body_, need <= kKeepBytes ? kKeepBytes : std::max<std::uint64_t>(need, 2 * need), caller_);
    if (!st.ok()) {
      read_error_ = st.error();
      nghttp2_session_consume(session_.h2_, id_, bytes.size());
      return wake(reader_);
    }
  }
  body_.append(bytes);
  wake(reader_);
}

// For raw_bytes_ in body_: what the stream keeps from one request to the next does for most, a large body takes the
// memory of the one before it.
Status Stream::make_room() {
  wire::Core& core = *session_.core_;
  std::uint64_t wanted = kKeepBytes;
  if (raw_bytes_ > kKeepBytes) {
    if (session_.lend_body(body_, static_cast<std::size_t>(raw_bytes_)))
      return core.grow(body_, raw_bytes_, caller_);  // its memory may have been another caller's
    wanted = std::max(raw_bytes_, std::max<std::uint64_t>(kFirstBodyBytes, 2 * body_.size()));
  }
  return core.grow(body_, std::min(head_.content_length.value_or(UINT64_MAX), wanted), caller_);
}

// Of a body that the handler wants whole.
Status Stream::append(std::string_view bytes) {
  raw_bytes_ += bytes.size();
  if (head_.encoding != RequestHead::Encoding::kIdentity) return append_decoded(bytes);
  if (raw_bytes_ > max_bytes_) return wire::too_large(max_bytes_);
  if (body_.tail().size() < bytes.size()) MAYFLY_TRY(make_room());
  body_.append(bytes);
  return Ok{};
}

Status Stream::start_inflater() {
  using Format = wire::Inflater::Format;
  auto made = wire::Inflater::create(head_.encoding == RequestHead::Encoding::kGzip ? Format::kGzip : Format::kZlib);
  if (!made.ok()) return std::move(made.error());
  inflater_ = std::move(*made);
  return Ok{};
}

Status Stream::append_decoded(std::string_view bytes) {
  if (raw_bytes_ > max_bytes_ + wire::kCompressionSlackBytes) return wire::too_large(max_bytes_);
  if (!inflater_) MAYFLY_TRY(start_inflater());
  while (!bytes.empty() || inflater_->has_more()) {
    auto piece = inflater_->inflate(bytes);
    if (!piece.ok()) return std::move(piece.error());
    bytes.remove_prefix(piece->consumed);
    decoded_bytes_ += piece->data.size();
    if (decoded_bytes_ > max_bytes_) return wire::too_large(max_bytes_);
    if (body_.tail().size() < piece->data.size()) {
      const std::uint64_t wanted = std::max<std::uint64_t>(body_.size() + piece->data.size(), 2 * body_.size());
      MAYFLY_TRY(session_.core_->grow(body_, std::min(wanted, max_bytes_), caller_));
    }
    body_.append(piece->data);
  }
  return Ok{};
}

void Stream::on_end() {
  remote_ended_ = true;
  if (state_ != State::kBody) return wake(reader_);
  due_ = UINT64_MAX;
  if (inflater_ && !inflater_->finished()) {
    return fail(invalid("malformed_body",
                        "cannot decompress the body: it ends after {} bytes, within the stream; send all of it",
                        raw_bytes_));
  }
  request_.body = body_.view();
  start();
}

void Stream::on_close() {
  closed_ = true;
  if (state_ == State::kBody) give_up();
  if (streaming_ && !session_.closed_) {
    nghttp2_session_consume_connection(session_.h2_, body_.size() + reading_.size());
  }
  if (running_) cancel_.fire();
  wake(reader_);
  wake(writer_);
}

void Stream::give_up() {
  state_ = State::kAnswering;
  session_.core_->handler.on_abort(std::exchange(cookie_, nullptr));
}

void Stream::fail(const Error& error) {
  give_up();
  due_ = UINT64_MAX;
  answer_error(error);
}

void Stream::wake(OneShot<Ok>*& waiter) {
  if (waiter != nullptr) std::exchange(waiter, nullptr)->set(Ok{});
}

void Stream::expire_if_due(std::uint64_t now) {
  const wire::Limits& limits = session_.core_->limits;
  if (closed_) return;
  if (state_ == State::kBody || reader_ != nullptr) {
    if (now < deadline_ && now < due_) return;
    Error error = now >= deadline_ ? wire::body_late() : wire::body_stalled(limits.body_timeout);
    if (state_ == State::kBody) {
      fail(error);
    } else {
      read_error_ = std::move(error);
      wake(reader_);
    }
    return;
  }
  // An answer of which the client takes nothing.
  const bool unsent = begun_ ? !out_.empty() : submitted_ && sent_ < response_.body.size() && !bodiless();
  if (!unsent || now < progress_ns_ + static_cast<std::uint64_t>(limits.body_timeout.count()) * 1'000'000) return;
  progress_ns_ = now;
  nghttp2_submit_rst_stream(session_.h2_, NGHTTP2_FLAG_NONE, id_, NGHTTP2_CANCEL);
  session_.output();
}

Task<Ok> Stream::run(std::shared_ptr<Session> session, Stream* self) {
  if (self->closed_) {
    self->give_up();
  } else {
    self->state_ = State::kHandling;
    static_cast<void>(co_await session->core_->handler.handle(self->request_, self->cookie_, self->response_));
    self->cookie_ = nullptr;
    self->state_ = State::kAnswering;
  }
  self->running_ = false;
  if (!self->closed_) self->finish();
  session->release_if_done(self);
  co_return Ok{};
}

// What the handler left of a body that came in pieces, and the memory of a large one.
void Stream::drop_body() {
  request_.body = {};
  if (streaming_) open_window(body_.size() + reading_.size());
  for (wire::Buffer* b : {&body_, &reading_}) {
    b->rewind(0);
    if (b->capacity() > kKeepBytes) session_.keep_body(*b);
  }
}

void Stream::open_window(std::size_t n) {
  if (n == 0 || closed_ || session_.closed_) return;
  nghttp2_session_consume(session_.h2_, id_, n);
  session_.output();
}

// The next piece of what has arrived; empty: there is none yet, or the body has ended.
Result<std::span<const char>> Stream::take_piece() {
  if (head_.encoding == RequestHead::Encoding::kIdentity) {
    open_window(reading_.size());
    reading_.rewind(0);
    reading_.swap(body_);
    raw_bytes_ += reading_.size();
    if (raw_bytes_ > max_bytes_) return wire::too_large(max_bytes_);
    return std::span<const char>(reading_.view().data(), reading_.size());
  }
  while (!body_.empty() || (inflater_ && inflater_->has_more())) {
    if (!inflater_) MAYFLY_TRY(start_inflater());
    auto piece = inflater_->inflate(body_.view());
    if (!piece.ok()) return std::move(piece.error());
    raw_bytes_ += piece->consumed;
    decoded_bytes_ += piece->data.size();
    body_.consume(piece->consumed);
    if (body_.empty()) body_.rewind(0);
    open_window(piece->consumed);
    if (decoded_bytes_ > max_bytes_ || raw_bytes_ > max_bytes_ + wire::kCompressionSlackBytes)
      return wire::too_large(max_bytes_);
    if (!piece->data.empty()) return std::span<const char>(piece->data.data(), piece->data.size());
  }
  if (remote_ended_ && inflater_ && !inflater_->finished()) {
    return invalid("malformed_body",
                   "cannot decompress the body: it ends after {} bytes, within the stream; send all of it", raw_bytes_);
  }
  return std::span<const char>();
}

Task<Result<std::span<const char>>> Stream::next() {
  const wire::Core& core = *session_.core_;
  for (;;) {
    if (read_error_) co_return *read_error_;
    if (core.coarse_now_ns >= deadline_ && !remote_ended_) read_error_ = wire::body_late();
    auto piece = take_piece();
    if (!piece.ok()) read_error_ = piece.error();
    if (read_error_) continue;
    if (!piece->empty() || remote_ended_) co_return *piece;
    if (closed_) {
      read_error_ = wire::client_closed();
      continue;
    }
    send_continue();
    due_ = may_pause_ ? UINT64_MAX : core.due_in(core.limits.body_timeout);
    OneShot<Ok> more;
    reader_ = &more;
    co_await more.wait();
    due_ = UINT64_MAX;
  }
}

}  // namespace mayfly::http2
