#include "gateway/http2/session.h"

#include <utility>

namespace mayfly::http2 {

// What nghttp2 calls. Non-zero results end the session (feed() then fails) or, where said so, one stream.
struct Callbacks {
  static Session& of(void* user) { return *static_cast<Session*>(user); }
  static Stream* stream(nghttp2_session* h2, std::int32_t id) {
    return static_cast<Stream*>(nghttp2_session_get_stream_user_data(h2, id));
  }

  static int on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* head, void* user) {
    return of(user).on_frame_head(*head) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
  }
  static int on_begin_headers(nghttp2_session* h2, const nghttp2_frame* frame, void* user) {
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    Stream* opened = of(user).open_stream(frame->hd.stream_id);
    if (opened != nullptr) nghttp2_session_set_stream_user_data(h2, frame->hd.stream_id, opened);
    return 0;
  }
  static int on_header(nghttp2_session* h2, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
                       const std::uint8_t* value, std::size_t value_size, std::uint8_t, void*) {
    Stream* s = stream(h2, frame->hd.stream_id);
    const bool goes_on = s != nullptr && s->add_field({reinterpret_cast<const char*>(name), name_size},
                                                      {reinterpret_cast<const char*>(value), value_size});
    return goes_on ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // the stream's end
  }
  static int on_data(nghttp2_session* h2, std::uint8_t, std::int32_t id, const std::uint8_t* data, std::size_t n,
                     void*) {
    if (Stream* s = stream(h2, id)) {
      s->on_data({reinterpret_cast<const char*>(data), n});
    } else {
      nghttp2_session_consume(h2, id, n);
    }
    return 0;
  }
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) { return of(user).on_frame(*frame); }
  static int on_sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    of(user).on_sent(*frame);
    return 0;
  }
  static int on_close(nghttp2_session* h2, std::int32_t id, std::uint32_t, void* user) {
    if (Stream* s = stream(h2, id)) of(user).on_stream_close(s);
    return 0;
  }
  static int send_data(nghttp2_session*, nghttp2_frame* frame, const std::uint8_t* head, std::size_t n,
                       nghttp2_data_source* source, void* user) {
    Session& session = of(user);
    if (session.pump_out_->size() >= session.pump_limit_) return NGHTTP2_ERR_WOULDBLOCK;
    auto* s = static_cast<Stream*>(source->ptr);
    session.pump_out_->append(reinterpret_cast<const char*>(head), 9).append(s->data(n));
    static_cast<void>(frame);  // it has no padding: nobody asks for it
    s->data_sent(n);
    return 0;
  }
};

namespace {

constexpr std::size_t kMaxOutboundAcks = 1000;  // of pings and settings that the client does not read
constexpr std::size_t kMaxSettingsEntries = 32;

nghttp2_session* new_session(Session* self) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* option = nullptr;
  nghttp2_session* h2 = nullptr;
  MAYFLY_CHECK(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
  nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, Callbacks::on_begin_frame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, Callbacks::on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::on_frame);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, Callbacks::on_sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::on_close);
  nghttp2_session_callbacks_set_send_data_callback(callbacks, Callbacks::send_data);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_max_outbound_ack(option, kMaxOutboundAcks);
  nghttp2_option_set_max_settings(option, kMaxSettingsEntries);
  nghttp2_option_set_max_continuations(option, kMaxContinuations);
  nghttp2_option_set_stream_reset_rate_limit(option, 1'000'000, 1'000'000);      // the Guard's work
  MAYFLY_CHECK(nghttp2_session_server_new2(&h2, callbacks, self, option) == 0);  // fails for want of memory only
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_option_del(option);
  return h2;
}

// The limits that nghttp2 itself keeps.
const char* limit_of(ssize_t error) {
  switch (error) {
    case NGHTTP2_ERR_FLOODED:
      return "max_outbound_acks";
    case NGHTTP2_ERR_TOO_MANY_SETTINGS:
      return "max_settings_entries";
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
      return "max_continuations";
    default:
      return nullptr;
  }
}

}  // namespace

Session::Session(std::shared_ptr<wire::Core> core, bool loopback, std::uint64_t peer)
    : core_(std::move(core)),
      h2_(new_session(this)),
      loopback_(loopback),
      peer_(peer),
      idle_since_(core_->coarse_now_ns) {
  const wire::Limits& limits = core_->limits;
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.max_streams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<std::uint32_t>(kStreamWindow)},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<std::uint32_t>(limits.max_head_bytes)}};
  nghttp2_submit_settings(h2_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(h2_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

Session::~Session() {
  close();
  nghttp2_session_del(h2_);
}

void Session::feed(std::string_view bytes) {
  if (failed_ || closed_) return;
  feeding_ = true;
  const ssize_t n = nghttp2_session_mem_recv(h2_, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  feeding_ = false;
  if (n < 0) {
    failed_ = true;
    if (const char* limit = limit_of(n)) {
      refuse_connection(limit);
    } else if (!refused_) {
      nghttp2_session_terminate_session(
          h2_, n == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_INTERNAL_ERROR);
    }
  }
  for (Stream* s : ready_) asio::co_spawn(core_->executor, Stream::run(shared_from_this(), s), asio::detached);
  ready_.clear();
}

void Session::pump(std::string& out, std::size_t limit) {
  output_told_ = false;
  if (closed_) return;
  pump_out_ = &out;
  pump_limit_ = limit;
  while (out.size() < limit) {
    const std::uint8_t* data = nullptr;
    const ssize_t n = nghttp2_session_mem_send(h2_, &data);
    if (n < 0) failed_ = true;
    if (n <= 0) break;
    out.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(n));
  }
  pump_out_ = nullptr;
}

bool Session::over() const {
  if (closed_) return true;
  return nghttp2_session_want_write(h2_) == 0 && (failed_ || nghttp2_session_want_read(h2_) == 0);
}

void Session::output() {
  if (feeding_ || pump_out_ != nullptr || output_told_ || closed_ || listener_ == nullptr) return;
  output_told_ = true;
  listener_(listener_argument_);
}

Stream* Session::open_stream(std::int32_t id) {
  // nghttp2 counts open streams; here also those that the client has reset and whose handler still runs.
  if (streams_.size() >= core_->limits.max_streams) {
    nghttp2_submit_rst_stream(h2_, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    return nullptr;
  }
  if (kept_.empty()) {
    streams_.push_back(std::make_unique<Stream>(*this));
  } else {
    streams_.push_back(std::move(kept_.back()));
    kept_.pop_back();
  }
  Stream* s = streams_.back().get();
  s->index_ = streams_.size() - 1;
  s->open(id);
  return s;
}

void Session::release_if_done(Stream* s) {
  if (!s->done()) return;
  const std::size_t at = s->index_;
  std::unique_ptr<Stream> mine = std::move(streams_[at]);
  if (at + 1 < streams_.size()) {
    streams_[at] = std::move(streams_.back());
    streams_[at]->index_ = at;
  }
  streams_.pop_back();
  if (streams_.empty()) idle_since_ = core_->coarse_now_ns;
  if (kept_.size() == kKeptStreams || closed_) return;
  mine->reset();
  kept_.push_back(std::move(mine));
}

// For `body` to hold `capacity` bytes: the memory of a former body, if there is one that large.
bool Session::lend_body(wire::Buffer& body, std::size_t capacity) {
  if (spare_body_.capacity() < capacity) return false;
  spare_body_.rewind(0);
  spare_body_.append(body.view());
  spare_body_.swap(body);
  return true;
}

// Of a large body that is done with. One a connection is kept, until a sweep finds no stream.
void Session::keep_body(wire::Buffer& body) {
  const bool keep = body.capacity() > spare_body_.capacity() && body.capacity() <= kMaxSpareBytes && !closed_ &&
                    !core_->memory_is_short();
  if (keep) body.swap(spare_body_);
  core_->free(body);
}

void Session::on_stream_close(Stream* s) {
  s->on_close();
  release_if_done(s);
}

void Session::count(Frame kind) {
  if (!guard_.allow(kind, core_->coarse_now_ns)) refuse_connection(Guard::limit(kind));
}

void Session::refuse_connection(const char* limit) {
  if (refused_ || closed_) return;
  refused_ = true;
  if (core_->log) {
    core_->log("http2_refused", fmt::format("{}: a client went over this limit; its connection is closed", limit));
  }
  nghttp2_session_terminate_session(h2_, NGHTTP2_ENHANCE_YOUR_CALM);
  output();
}

// Whether a head comes on an id that the client went past without using it: RFC 9113 section 5.1.1 calls it a
// connection error. A head on an id that was used may be trailers of a stream that has just been reset.
bool Session::is_skipped(std::int32_t id) {
  if (id > highest_id_) {
    if (id > highest_id_ + 2 && skipped_.size() < kSkippedRanges) skipped_.emplace_back(highest_id_ + 2, id - 2);
    highest_id_ = id;
    return false;
  }
  for (const auto& [first, last] : skipped_) {
    if (id >= first && id <= last) return true;
  }
  return false;
}

bool Session::on_frame_head(const nghttp2_frame_hd& head) {
  switch (head.type) {
    case NGHTTP2_DATA:
      break;
    case NGHTTP2_HEADERS:
      continuations_ = 0;
      if (is_skipped(head.stream_id)) {
        nghttp2_session_terminate_session(h2_, NGHTTP2_PROTOCOL_ERROR);
        refused_ = true;  // nothing more is read
      }
      break;
    case NGHTTP2_CONTINUATION:
      if (++continuations_ > kMaxContinuations) refuse_connection("max_continuations");
      break;
    case NGHTTP2_PRIORITY:
      count(Frame::kPriority);
      break;
    case NGHTTP2_RST_STREAM:
      count(Frame::kReset);
      break;
    case NGHTTP2_SETTINGS:
      if ((head.flags & NGHTTP2_FLAG_ACK) == 0) count(Frame::kSettings);
      break;
    case NGHTTP2_PING:
      if ((head.flags & NGHTTP2_FLAG_ACK) == 0) count(Frame::kPing);
      break;
    case NGHTTP2_WINDOW_UPDATE:
      count(Frame::kWindowUpdate);
      break;
    default:
      break;  // nghttp2 skips frames of unknown types before anybody is told
  }
  return !refused_;
}

int Session::on_frame(const nghttp2_frame& frame) {
  const bool ends = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  switch (frame.hd.type) {
    case NGHTTP2_HEADERS:
      if (Stream* s = Callbacks::stream(h2_, frame.hd.stream_id)) {
        if (frame.headers.cat == NGHTTP2_HCAT_REQUEST) {
          s->on_head(!ends);
        } else if (ends) {
          s->on_end();
        }
      }
      break;
    case NGHTTP2_DATA:
      if (!ends && frame.hd.length == frame.data.padlen) count(Frame::kEmptyData);
      if (ends) {
        if (Stream* s = Callbacks::stream(h2_, frame.hd.stream_id)) s->on_end();
      }
      break;
    case NGHTTP2_PING:
      if (draining_ && (frame.hd.flags & NGHTTP2_FLAG_ACK) != 0) final_goaway();
      break;
    default:
      break;
  }
  return refused_ ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

void Session::on_sent(const nghttp2_frame& frame) {
  switch (frame.hd.type) {
    case NGHTTP2_DATA:
      guard_.data_sent();
      [[fallthrough]];
    case NGHTTP2_HEADERS:
      if ((frame.hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) break;
      // The answer is complete and the rest of the request is not wanted (RFC 9113 section 8.1).
      if (Stream* s = Callbacks::stream(h2_, frame.hd.stream_id); s != nullptr && s->remote_open()) {
        nghttp2_submit_rst_stream(h2_, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR);
      }
      break;
    case NGHTTP2_RST_STREAM:
      // A client can have its streams reset by mistakes as well as by resets.
      if (frame.rst_stream.error_code != NGHTTP2_NO_ERROR && frame.rst_stream.error_code != NGHTTP2_CANCEL)
        count(Frame::kReset);
      break;
    default:
      break;
  }
}

void Session::drain() {
  if (std::exchange(draining_, true) || closed_) return;
  nghttp2_submit_shutdown_notice(h2_);
  nghttp2_submit_ping(h2_, NGHTTP2_FLAG_NONE, nullptr);
  output();
}

void Session::final_goaway() {
  if (std::exchange(final_sent_, true)) return;
  nghttp2_submit_goaway(h2_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h2_), NGHTTP2_NO_ERROR, nullptr,
                        0);
  output();
}

void Session::close() {
  if (std::exchange(closed_, true)) return;
  for (std::size_t i = streams_.size(); i-- > 0;) {  // from the end: a release moves the last into the gap
    Stream* s = streams_[i].get();
    if (!s->closed_) s->on_close();
    release_if_done(s);
  }
  core_->free(spare_body_);
}

void Session::expire_if_due(std::uint64_t now) {
  if (closed_) return;
  if (draining_) final_goaway();
  if (core_->memory_is_short()) core_->free(spare_body_);
  if (streams_.empty()) {
    kept_.clear();
    core_->free(spare_body_);
    const auto idle = static_cast<std::uint64_t>(core_->limits.keep_alive_timeout.count()) * 1'000'000;
    if (now >= idle_since_ + idle && !refused_ && !std::exchange(draining_, true)) {
      nghttp2_session_terminate_session(h2_, NGHTTP2_NO_ERROR);
      output();
    }
    return;
  }
  for (const auto& s : streams_) {
    if (s->head_is_late(now)) return refuse_connection("head_timeout");
    s->expire_if_due(now);
  }
}

}  // namespace mayfly::http2
