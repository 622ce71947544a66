// gRPC unary calls of inference.GRPCInferenceService/ModelInfer over HTTP/2 with prior knowledge: nghttp2 does the
// framing, the messages are encoded by hand. Each connection carries up to `streams` calls at once. A stream that the
// server refused without having looked at it (REFUSED_STREAM, or above the last one of a GOAWAY) is sent again, as any
// gRPC client does;
// after a GOAWAY new calls wait until the old ones are answered and a new connection is made.
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <vector>

#include "transport.h"

namespace mayfly::bench {
namespace {

constexpr std::string_view kPath = "/inference.GRPCInferenceService/ModelInfer";
constexpr std::size_t kPrefix = 5;               // compressed flag, length in network order
constexpr std::int32_t kWindow = (1 << 30) - 1;  // we never hold back an answer
constexpr std::size_t kSendAtOnce = 64 * 1024;   // the server reads while more is framed
constexpr int kMaxAttempts = 5;                  // of one call whose stream is refused

// -- protobuf: only what one message needs
// ------------------------------------------------------------------------------
void varint(std::string& out, std::uint64_t n) {
  for (; n >= 0x80; n >>= 7) out.push_back(static_cast<char>(n | 0x80));
  out.push_back(static_cast<char>(n));
}

void bytes(std::string& out, std::uint32_t number, std::string_view value) {
  varint(out, (number << 3) | 2U);
  varint(out, value.size());
  out.append(value);
}

std::string frame(std::string_view message) {
  std::string out(kPrefix, '\0');
  for (std::size_t i = 0; i < 4; ++i) out[1 + i] = static_cast<char>(message.size() >> (8 * (3 - i)));
  return out.append(message);
}

// -- connections
// --------------------------------------------------------------------------------------------------------
struct Call {
  std::size_t lane = 0;
  const std::string* request = nullptr;  // null: free
  bool parked = false;                   // has a request, but no stream at present
  int attempts = 0;
  std::size_t sent = 0;
  std::int32_t stream = 0;
  std::string answer;
  std::string status;   // grpc-status
  std::string message;  // grpc-message
  std::string http_status;
};

class Grpc;

struct Connection {
  Fd fd;
  nghttp2_session* session = nullptr;
  Grpc* owner = nullptr;
  std::vector<Call> calls;  // one per stream lane
  std::string out;          // framed, not yet sent
  std::size_t out_sent = 0;
  bool waits_to_write = false;
  bool going_away = false;
  bool dirty = false;  // has something to flush

  Connection() = default;
  Connection(Connection&&) = delete;
  ~Connection() { nghttp2_session_del(session); }
};

Outcome outcome_of(std::string_view status) {
  if (status == "0") return Outcome::kOk;
  if (status == "8") return Outcome::kTooMany;
  if (status == "14") return Outcome::kUnavailable;
  if (status == "4") return Outcome::kTimedOut;
  return Outcome::kOther;
}

nghttp2_nv header(std::string_view name, std::string_view value) {
  const auto byte_pointer = [](std::string_view s) {
    return const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(s.data()));  // nghttp2 copies both
  };
  return {byte_pointer(name), byte_pointer(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

std::string_view text(const std::uint8_t* p, std::size_t n) { return {reinterpret_cast<const char*>(p), n}; }

class Grpc final : public Transport {
 public:
  Grpc(const LoadOptions& o, int epoll, Sink sink)
      : o_(o), epoll_(epoll), sink_(std::move(sink)), authority_(fmt::format("127.0.0.1:{}", o.port)) {
    if (!o.key.empty()) authorization_ = "Bearer " + o.key;
    nghttp2_session_callbacks_new(&callbacks_);
    nghttp2_session_callbacks_set_on_header_callback(callbacks_, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks_, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks_, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks_, on_frame);
    nghttp2_session_callbacks_set_send_data_callback(callbacks_, send_piece);
  }
  ~Grpc() override { nghttp2_session_callbacks_del(callbacks_); }
  Grpc(const Grpc&) = delete;
  Grpc& operator=(const Grpc&) = delete;

  Status connect() override {
    for (std::size_t i = 0; i < o_.connections; ++i) {
      Connection& c = connections_.emplace_back();
      c.owner = this;
      c.calls.resize(o_.streams);
      for (std::size_t s = 0; s < o_.streams; ++s) c.calls[s].lane = i * o_.streams + s;
      MAYFLY_TRY(open(c));
    }
    return Ok{};
  }

  Status start(std::size_t lane, const Case& request) override {
    Call& call = connections_[lane / o_.streams].calls[lane % o_.streams];
    call.request = &request.request;
    call.attempts = 0;
    return submit(connections_[lane / o_.streams], call);
  }

  Status flush() override {
    for (auto& c : connections_) {
      if (!c.dirty) continue;
      c.dirty = false;
      MAYFLY_TRY(send_some(c));
    }
    return Ok{};
  }

  Status on_event(const epoll_event& e) override {
    Connection& c = connections_[e.data.u64];
    c.dirty = true;
    if ((e.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return Ok{};
    const ssize_t n = ::recv(c.fd.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return Ok{};
    if (n <= 0) return lost(c, n == 0 ? "closed by the server" : "reset by the server");
    const auto used = nghttp2_session_mem_recv(c.session, reinterpret_cast<const std::uint8_t*>(buffer_.data()),
                                               static_cast<std::size_t>(n));
    if (used < 0) return load_error("HTTP/2: {}", nghttp2_strerror(static_cast<int>(used)));
    return settle(c);
  }

  Status give_up(std::size_t lane) override {
    Connection& c = connections_[lane / o_.streams];
    Call& call = c.calls[lane % o_.streams];
    if (call.request == nullptr) return Ok{};
    if (!call.parked) {
      nghttp2_session_set_stream_user_data(c.session, call.stream, nullptr);
      nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, call.stream, NGHTTP2_CANCEL);
    }
    call.request = nullptr;
    c.dirty = true;
    return Ok{};
  }

  std::uint64_t reconnects() const override { return reconnects_; }

 private:
  Status open(Connection& c) {
    auto fd = connect_loopback(o_.port);
    if (!fd.ok()) return std::move(fd.error());
    c.fd = std::move(*fd);
    nghttp2_session_del(c.session);
    c.session = nullptr;
    if (nghttp2_session_client_new(&c.session, callbacks_, &c) != 0) return load_error("out of memory");
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow}};
    nghttp2_submit_settings(c.session, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(c.session, NGHTTP2_FLAG_NONE, 0, kWindow);
    c.out.clear();
    c.out_sent = 0;
    c.going_away = c.waits_to_write = false;
    c.dirty = true;
    return wait_for_events(epoll_, EPOLL_CTL_ADD, c.fd.get(), number_of(c), false);
  }

  std::size_t number_of(const Connection& c) const { return c.calls.front().lane / o_.streams; }

  Status submit(Connection& c, Call& call) {
    call.parked = true;
    if (c.fd.valid() && c.going_away && active_calls(c) > 0) return Ok{};
    if (!c.fd.valid() || c.going_away) MAYFLY_TRY(reopen(c));
    call.parked = false;
    ++call.attempts;
    call.sent = 0;
    call.answer.clear();
    call.status.clear();
    call.message.clear();
    call.http_status.clear();
    std::array<nghttp2_nv, 7> headers = {header(":method", "POST"),
                                         header(":scheme", "http"),
                                         header(":path", kPath),
                                         header(":authority", authority_),
                                         header("te", "trailers"),
                                         header("content-type", "application/grpc"),
                                         header("authorization", authorization_)};
    const nghttp2_data_provider body = {.source = {.ptr = nullptr}, .read_callback = read_request};
    call.stream =
        nghttp2_submit_request(c.session, nullptr, headers.data(), authorization_.empty() ? 6 : 7, &body, &call);
    if (call.stream < 0) return load_error("HTTP/2: {}", nghttp2_strerror(call.stream));
    c.dirty = true;
    return Ok{};
  }

  Status reopen(Connection& c) {
    ++reconnects_;
    return open(c);
  }

  static std::size_t active_calls(const Connection& c) {
    return static_cast<std::size_t>(std::count_if(
        c.calls.begin(), c.calls.end(), [](const Call& call) { return call.request != nullptr && !call.parked; }));
  }

  Status send_some(Connection& c) {
    while (c.fd.valid()) {
      while (c.out.size() - c.out_sent < kSendAtOnce) {
        const std::uint8_t* data = nullptr;
        const auto n = nghttp2_session_mem_send(c.session, &data);
        if (n < 0) return load_error("HTTP/2: {}", nghttp2_strerror(static_cast<int>(n)));
        if (n == 0) break;
        c.out.append(text(data, static_cast<std::size_t>(n)));
      }
      if (c.out_sent == c.out.size()) break;
      const ssize_t n =
          ::send(c.fd.get(), c.out.data() + c.out_sent, c.out.size() - c.out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return want_write(c, true);
      if (n < 0) return want_write(c, false);  // the end is noticed by reading
      c.out_sent += static_cast<std::size_t>(n);
      if (c.out_sent < c.out.size()) continue;
      c.out.clear();
      c.out_sent = 0;
    }
    return want_write(c, false);
  }

  Status want_write(Connection& c, bool wanted) {
    if (!c.fd.valid() || c.waits_to_write == wanted) return Ok{};
    c.waits_to_write = wanted;
    return wait_for_events(epoll_, EPOLL_CTL_MOD, c.fd.get(), number_of(c), wanted);
  }

  // The connection is gone, with all calls that were open on it.
  Status lost(Connection& c, std::string_view how) {
    c.fd.reset();
    for (Call& call : c.calls) {
      if (call.request != nullptr && !call.parked) finish(call, Outcome::kCut, how);
    }
    return settle(c);
  }

  void finish(Call& call, Outcome outcome, std::string_view what) {
    call.request = nullptr;
    sink_(call.lane, outcome, what);
  }

  // Calls that wait for a stream get one, if need be on a new connection.
  Status settle(Connection& c) {
    if (c.going_away && active_calls(c) > 0) return Ok{};
    for (Call& call : c.calls) {
      if (call.request != nullptr && call.parked) MAYFLY_TRY(submit(c, call));
    }
    return Ok{};
  }

  void closed(Connection& c, Call& call, std::uint32_t error) {
    if (error == NGHTTP2_REFUSED_STREAM) {
      call.parked = true;
      if (call.attempts < kMaxAttempts) return;
      return finish(call, Outcome::kUnavailable, "the server refused the stream, and each further attempt");
    }
    c.dirty = true;
    const Outcome outcome = call.status.empty() ? Outcome::kOther : outcome_of(call.status);
    if (outcome != Outcome::kOk) {
      const auto what = fmt::format("grpc-status {}, {} (HTTP {}, stream error {})", call.status, call.message,
                                    call.http_status, nghttp2_http2_strerror(error));
      return finish(call, outcome, what);
    }
    const std::string_view answer = call.answer;
    if (answer.size() < kPrefix || answer[0] != '\0' ||
        frame(answer.substr(kPrefix)).substr(0, kPrefix) != answer.substr(0, kPrefix)) {
      return finish(call, Outcome::kWrong,
                    fmt::format("a message of {} bytes with a frame that does not fit", answer.size()));
    }
    finish(call, Outcome::kOk, answer.substr(kPrefix));
  }

  // -- callbacks of nghttp2: `user` is the connection, the stream's data is the call
  // ------------------------------------
  static Call* call_of(nghttp2_session* session, std::int32_t stream) {
    return static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream));
  }

  static ssize_t read_request(nghttp2_session* session, std::int32_t stream, std::uint8_t* /*buffer*/, std::size_t size,
                              std::uint32_t* flags, nghttp2_data_source* /*source*/, void* /*user*/) {
    Call* call = call_of(session, stream);
    if (call == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const std::size_t n = std::min(size, call->request->size() - call->sent);
    call->sent += n;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (call->sent == call->request->size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(n);
  }

  // What read_request() announced.
  static int send_piece(nghttp2_session* session, nghttp2_frame* f, const std::uint8_t* head, std::size_t n,
                        nghttp2_data_source* /*source*/, void* user) {
    constexpr std::size_t kHead = 9;
    auto* c = static_cast<Connection*>(user);
    if (c->out.size() - c->out_sent >= kSendAtOnce) return NGHTTP2_ERR_WOULDBLOCK;
    const Call* call = call_of(session, f->hd.stream_id);
    if (call == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const std::string_view piece = std::string_view(*call->request).substr(call->sent - n, n);
    c->out.append(text(head, kHead));
    c->out.append(piece);
    return 0;
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* f, const std::uint8_t* name,
                       std::size_t name_size, const std::uint8_t* value, std::size_t value_size, std::uint8_t /*flags*/,
                       void* /*user*/) {
    Call* call = call_of(session, f->hd.stream_id);
    if (call == nullptr) return 0;
    const std::string_view key = text(name, name_size);
    if (key == "grpc-status") call->status = text(value, value_size);
    if (key == "grpc-message") call->message = text(value, value_size);
    if (key == ":status") call->http_status = text(value, value_size);
    return 0;
  }

  static int on_data(nghttp2_session* session, std::uint8_t /*flags*/, std::int32_t stream, const std::uint8_t* data,
                     std::size_t size, void* /*user*/) {
    if (Call* call = call_of(session, stream)) call->answer.append(text(data, size));
    return 0;
  }

  static int on_stream_close(nghttp2_session* session, std::int32_t stream, std::uint32_t error, void* user) {
    auto* c = static_cast<Connection*>(user);
    if (Call* call = call_of(session, stream)) c->owner->closed(*c, *call, error);
    return 0;
  }

  static int on_frame(nghttp2_session* /*session*/, const nghttp2_frame* f, void* user) {
    if (f->hd.type == NGHTTP2_GOAWAY) static_cast<Connection*>(user)->going_away = true;
    return 0;
  }

  const LoadOptions& o_;
  const int epoll_;
  const Sink sink_;
  const std::string authority_;
  std::string authorization_;
  nghttp2_session_callbacks* callbacks_ = nullptr;
  std::deque<Connection> connections_;  // they do not move: sessions point to them
  std::array<char, 65536> buffer_{};
  std::uint64_t reconnects_ = 0;
};

}  // namespace

std::unique_ptr<Transport> make_grpc(const LoadOptions& options, int epoll, Transport::Sink sink) {
  return std::make_unique<Grpc>(options, epoll, std::move(sink));
}

std::string encode_infer_request(std::string_view model, std::string_view input, std::string_view datatype,
                                 const std::vector<std::int64_t>& shape, std::string_view raw) {
  std::string dims;
  for (const std::int64_t d : shape) varint(dims, static_cast<std::uint64_t>(d));
  std::string tensor;  // ModelInferRequest.InferInputTensor
  bytes(tensor, 1, input);
  bytes(tensor, 2, datatype);
  bytes(tensor, 3, dims);
  std::string message;
  bytes(message, 1, model);
  bytes(message, 5, tensor);
  bytes(message, 7, raw);
  return frame(message);
}

}  // namespace mayfly::bench
