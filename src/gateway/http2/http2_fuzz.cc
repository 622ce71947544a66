// Fuzzes a server session behind its preface: no crash whatever the client sends and however it is split, every request
// that was begun is handled or given up exactly once, and nothing stays allocated after the end. The first byte says
// how the bytes are split and whether the client reads.
#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/http2/test_peer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  using namespace mayfly::http2;
  if (size < 1) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t step = data[0] % 64 == 0 ? bytes.size() + 1 : data[0] % 64;
  const bool reads = (data[0] & 0x40) == 0;
  asio::io_context io{1};
  TestHandler handler(io.get_executor());
  wire::Limits limits;
  limits.max_streams = 8;
  limits.max_buffered_bytes = 1 << 20;
  auto core = std::make_shared<wire::Core>(io.get_executor(), limits, handler, nullptr);
  core->coarse_now_ns = 1;
  auto session = std::make_shared<Session>(core, true);
  std::string out;
  session->feed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  session->feed(std::string_view("\0\0\0\4\0\0\0\0\0", 9));  // SETTINGS
  while (!bytes.empty() && !session->over()) {
    session->feed(bytes.substr(0, step));
    bytes.remove_prefix(std::min(step, bytes.size()));
    io.restart();
    io.poll();
    if (reads) session->pump(out, 64 * 1024);
    out.clear();
  }
  core->coarse_now_ns += 60'000'000'000;
  session->expire_if_due(core->coarse_now_ns);
  session->pump(out, 64 * 1024);
  session->close();
  handler.gate.cancel();
  for (int i = 0; i < 3; ++i) {
    io.restart();
    io.poll();
  }
  MAYFLY_CHECK(handler.heads == handler.handled + handler.aborted + handler.denied);
  MAYFLY_CHECK(session->streams() == 0);
  session.reset();
  MAYFLY_CHECK(core->buffered_bytes == 0);
  return 0;
}
