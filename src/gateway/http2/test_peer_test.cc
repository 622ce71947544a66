// TestPeer's body; in a test file so that it is not part of the library.
#include <gtest/gtest.h>

#include "gateway/http2/test_peer.h"

namespace mayfly::http2 {

struct TestPeer::Calls {
  static TestPeer& of(void* user) { return *static_cast<TestPeer*>(user); }
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t n,
                       const std::uint8_t* value, std::size_t m, std::uint8_t, void* user) {
    Got& got = of(user).got_[frame->hd.stream_id];
    const std::string key(reinterpret_cast<const char*>(name), n), text(reinterpret_cast<const char*>(value), m);
    if (key == ":status" && text[0] == '1') {
      got.interim.push_back(text);
    } else if (frame->headers.cat == NGHTTP2_HCAT_HEADERS && got.head.count(":status") != 0) {
      got.trailers[key] = text;
    } else {
      got.head[key] = text;
    }
    return 0;
  }
  static int on_data(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data, std::size_t n,
                     void* user) {
    of(user).got_[id].body.append(reinterpret_cast<const char*>(data), n);
    return 0;
  }
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    TestPeer& p = of(user);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      p.goaway = frame->goaway.error_code;
      p.goaway_last.push_back(frame->goaway.last_stream_id);
    }
    if (frame->hd.type == NGHTTP2_WINDOW_UPDATE && frame->hd.stream_id != 0) ++p.updates;
    if (frame->hd.type == NGHTTP2_DATA) ++p.got_[frame->hd.stream_id].data_frames;
    const bool may_end = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    if (may_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) p.got_[frame->hd.stream_id].ended = true;
    return 0;
  }
  static int on_close(nghttp2_session*, std::int32_t id, std::uint32_t code, void* user) {
    of(user).got_[id].closed = true;
    of(user).got_[id].code = code;
    return 0;
  }
  static ssize_t read(nghttp2_session*, std::int32_t, std::uint8_t* out, std::size_t room, std::uint32_t* flags,
                      nghttp2_data_source* source, void*) {
    auto* body = static_cast<Body*>(source->ptr);
    const std::size_t n = std::min(room, body->text.size() - body->at);
    std::copy_n(body->text.data() + body->at, n, out);
    body->at += n;
    if (body->at < body->text.size()) return static_cast<ssize_t>(n);
    if (!body->open) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (n == 0) {
      return NGHTTP2_ERR_DEFERRED;
    }
    return static_cast<ssize_t>(n);
  }
};

TestPeer::TestPeer(wire::Limits limits, std::int32_t window)
    : core(std::make_shared<wire::Core>(io.get_executor(), limits, handler,
                                        [this](std::string_view event, std::string_view detail) {
                                          log.push_back(fmt::format("{} {}", event, detail));
                                        })) {
  core->tick();
  session = std::make_shared<Session>(core, true);
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* option = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_option_new(&option);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Calls::on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Calls::on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Calls::on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Calls::on_close);
  if (window != 0) nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_session_client_new2(&client, callbacks, this, option);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_option_del(option);
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window != 0 ? static_cast<std::uint32_t>(window) : 65535U}};
  nghttp2_submit_settings(client, NGHTTP2_FLAG_NONE, settings, 1);
  exchange();
}

TestPeer::~TestPeer() {
  session->close();
  handler.gate.cancel();
  io.restart();
  io.poll();
  nghttp2_session_del(client);
}

std::int32_t TestPeer::request(const std::string& method, const std::string& path, const Fields& extra,
                               const std::string* body, bool open) {
  Fields fields = {{":method", method}, {":scheme", "http"}, {":authority", "t"}, {":path", path}};
  fields.insert(fields.end(), extra.begin(), extra.end());
  std::vector<nghttp2_nv> views;
  for (auto& [name, value] : fields) {
    views.push_back({reinterpret_cast<std::uint8_t*>(name.data()), reinterpret_cast<std::uint8_t*>(value.data()),
                     name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
  }
  nghttp2_data_provider provider{};
  if (body != nullptr || open) {
    bodies_.push_back(std::make_unique<Body>(Body{body != nullptr ? *body : "", 0, open}));
    provider.source.ptr = bodies_.back().get();
    provider.read_callback = Calls::read;
  }
  return nghttp2_submit_request(client, nullptr, views.data(), views.size(),
                                provider.source.ptr != nullptr ? &provider : nullptr, nullptr);
}

void TestPeer::exchange() {
  for (bool quiet = false; !quiet;) {
    quiet = true;
    for (;;) {
      const std::uint8_t* data = nullptr;
      const ssize_t n = nghttp2_session_mem_send(client, &data);
      if (n <= 0) break;
      quiet = false;
      session->feed({reinterpret_cast<const char*>(data), static_cast<std::size_t>(n)});
    }
    io.restart();
    io.poll();
    std::string out;
    if (takes) session->pump(out, 64 * 1024);
    sent_bytes += out.size();
    if (!out.empty()) {
      quiet = false;
      nghttp2_session_mem_recv(client, reinterpret_cast<const std::uint8_t*>(out.data()), out.size());
    }
  }
}

void TestPeer::raw(std::string_view frames) {
  session->feed(frames);
  exchange();
}

void TestPeer::sweep(std::uint64_t ns_later) {
  core->coarse_now_ns += ns_later;
  session->expire_if_due(core->coarse_now_ns);
  exchange();
}

std::string frame(std::uint8_t type, std::uint8_t flags, std::uint32_t id, std::string_view payload) {
  const auto n = static_cast<std::uint32_t>(payload.size());
  std::string out;
  for (int shift : {16, 8, 0}) out += static_cast<char>(n >> shift);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  for (int shift : {24, 16, 8, 0}) out += static_cast<char>(id >> shift);
  return out.append(payload);
}

}  // namespace mayfly::http2
