// The answer side of Stream: heads, bodies, pieces, trailers.
#include <algorithm>
#include <iterator>

#include "base/text.h"
#include "gateway/http2/session.h"
#include "gateway/wire/rules.h"

namespace mayfly::http2 {
namespace {

std::uint8_t* bytes_of(std::string_view s) { return reinterpret_cast<std::uint8_t*>(const_cast<char*>(s.data())); }

// `flags` NO_INDEX: a value that hardly comes again is not worth a place in the client's table.
nghttp2_nv field(std::string_view name, std::string_view value, std::uint8_t flags = NGHTTP2_NV_FLAG_NONE) {
  return {bytes_of(name), bytes_of(value), name.size(), value.size(), flags};
}

// Fields of HTTP/1 alone (RFC 9113 section 8.2.2).
bool is_for_http1(std::string_view name) {
  return name == "connection" || name == "keep-alive" || name == "transfer-encoding" || name == "upgrade";
}

bool is_grpc(std::string_view content_type) { return content_type.starts_with("application/grpc"); }

ssize_t read_data(nghttp2_session*, std::int32_t, std::uint8_t*, std::size_t room, std::uint32_t* flags,
                  nghttp2_data_source* source, void*) {
  return static_cast<Stream*>(source->ptr)->next_data(room, *flags);
}

}  // namespace

bool Stream::bodiless() const { return head_request_ || response_.status == 204 || response_.status == 304; }

// "Name: value\r\n" lines as fields. The names go to the session's scratch, which has room for them.
void Stream::add_lines(std::string_view lines) {
  std::string& scratch = session_.fields_;
  while (!lines.empty()) {
    const auto end = std::min(lines.find("\r\n"), lines.size());
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 2, lines.size()));
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) continue;
    const std::size_t at = scratch.size();
    std::transform(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(colon), std::back_inserter(scratch),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    const std::string_view name(scratch.data() + at, colon);
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    if (!is_for_http1(name)) session_.field_views_.push_back(field(name, value, NGHTTP2_NV_FLAG_NO_INDEX));
  }
}

// `length`: of the body, where it is known. Without `body_follows` the stream ends here.
void Stream::submit_head(const Response& response, std::optional<std::size_t> length, std::string_view trailers,
                         bool body_follows) {
  auto& views = session_.field_views_;
  std::string& scratch = session_.fields_;
  views.clear();
  scratch.clear();
  scratch.reserve(response.headers.size() + trailers.size() + 64);  // what it holds must not move
  append_number(scratch, static_cast<std::uint64_t>(response.status));
  views.push_back(field(":status", {scratch.data(), scratch.size()}));
  const bool typed = response.status != 204 && response.status != 304 && !response.content_type.empty();
  if (typed) views.push_back(field("content-type", response.content_type));
  if (length && typed) {
    const std::size_t at = scratch.size();
    append_number(scratch, *length);
    views.push_back(field("content-length", {scratch.data() + at, scratch.size() - at}, NGHTTP2_NV_FLAG_NO_INDEX));
  }
  views.push_back(field("date", session_.core_->date));
  add_lines(response.headers);
  add_lines(trailers);
  nghttp2_data_provider provider{};
  provider.source.ptr = this;
  provider.read_callback = read_data;
  submitted_ = true;
  progress_ns_ = session_.core_->coarse_now_ns;
  nghttp2_submit_response(session_.h2_, id_, views.data(), views.size(), body_follows ? &provider : nullptr);
  session_.output();
}

void Stream::submit_trailers() {
  session_.field_views_.clear();
  session_.fields_.clear();
  session_.fields_.reserve(response_.trailers.size());
  add_lines(response_.trailers);
  nghttp2_submit_trailer(session_.h2_, id_, session_.field_views_.data(), session_.field_views_.size());
}

// The whole answer, as it is in response_.
void Stream::answer() {
  const bool empty = response_.body.empty();
  if (bodiless() || (empty && response_.trailers.empty())) {
    submit_head(response_, response_.body.size(), {}, false);
  } else if (empty && is_grpc(response_.content_type)) {
    submit_head(response_, std::nullopt, response_.trailers, false);  // "Trailers-Only"
  } else if (is_grpc(response_.content_type)) {
    submit_head(response_, std::nullopt, {}, true);
  } else {
    submit_head(response_, response_.body.size(), {}, true);
  }
}

void Stream::answer_error(const Error& error, std::string_view headers) {
  response_.reset();
  session_.core_->handler.render_error(error, head_.target.empty() ? nullptr : &head_, response_);
  const int status = wire::transport_status(error);
  if (status != 0) response_.status = status;
  response_.headers.append(headers);
  drop_body();
  answer();
}

void Stream::finish() {
  drop_body();
  if (!begun_) return answer();
  ended_ = true;
  resume();
}

void Stream::resume() {
  if (!std::exchange(deferred_, false)) return;
  nghttp2_session_resume_data(session_.h2_, id_);
  session_.output();
}

Task<bool> Stream::begin(const Response& response) {
  begun_ = true;
  if (closed_) co_return false;
  submit_head(response, std::nullopt, {}, !head_request_);
  co_return true;
}

Task<bool> Stream::write(std::string_view piece) {
  if (closed_) co_return false;
  if (piece.empty() || head_request_) co_return true;
  if (out_.empty()) {
    out_.rewind(0);
    progress_ns_ = session_.core_->coarse_now_ns;
  }
  if (out_.tail().size() < piece.size()) out_.make_room(std::max(piece.size(), std::min(out_.size(), kPieceBytes)));
  out_.append(piece);
  resume();
  while (!closed_ && out_.size() > kPieceBytes) {
    OneShot<Ok> taken;
    writer_ = &taken;
    co_await taken.wait();
  }
  co_return !closed_;
}

// nghttp2 asks how much of the body comes next; it takes data() when it has written the frame's head.
ssize_t Stream::next_data(std::size_t room, std::uint32_t& flags) {
  const std::size_t have = begun_ ? out_.size() : response_.body.size() - sent_;
  const std::size_t n = std::min(room, have);
  if (begun_ && n == 0 && !ended_) {
    deferred_ = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  if (n > 0) flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (n == have && (!begun_ || ended_)) {
    flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!response_.trailers.empty()) {
      flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      submit_trailers();
    }
  }
  return static_cast<ssize_t>(n);
}

std::string_view Stream::data(std::size_t n) const {
  return begun_ ? out_.view().substr(0, n) : std::string_view(response_.body).substr(sent_, n);
}

void Stream::data_sent(std::size_t n) {
  progress_ns_ = session_.core_->coarse_now_ns;
  if (!begun_) {
    sent_ += n;
    return;
  }
  out_.consume(n);
  if (out_.size() <= kPieceBytes) wake(writer_);
}

}  // namespace mayfly::http2
