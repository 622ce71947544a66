// Fuzzes the head parser and the body decoder: no crash, and the same result however the bytes are split. The first
// byte says where the head is split and which body coding is used.
#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/http1/body_decoder.h"
#include "gateway/http1/head_parser.h"

namespace {

using namespace mayfly;
using namespace mayfly::http1;

std::string head_outcome(std::string_view bytes, std::size_t first) {
  HeadParser parser;
  auto whole = parser.scan(bytes.substr(0, first));
  if (whole.ok() && !*whole) whole = parser.scan(bytes);
  if (!whole.ok()) return whole.error().reason;
  if (!*whole) return "incomplete";
  const Status parsed = parser.parse(bytes);
  if (!parsed.ok()) return parsed.error().reason;
  return fmt::format("{} {} {} {}", parser.head_size(), parser.head().path, parser.head().query,
                     parser.head().content_length.value_or(0));
}

std::string body_outcome(const RequestHead& head, std::string_view raw, std::size_t step) {
  BodyDecoder decoder;
  decoder.begin(head, 1 << 16);
  std::string out;
  std::size_t at = 0;
  for (std::size_t have = std::min(step, raw.size());; have = std::min(have + step, raw.size())) {
    for (;;) {
      auto piece = decoder.step(raw.substr(at, have - at));
      if (!piece.ok()) return "!" + piece.error().reason;
      at += piece->consumed;
      out.append(piece->data);
      if (piece->done) return out;
      if (piece->data.empty()) break;
    }
    if (have == raw.size()) return "incomplete";
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t split = data[0];
  MAYFLY_CHECK(head_outcome(bytes, bytes.size()) == head_outcome(bytes, std::min(split, bytes.size())));
  RequestHead head;
  head.chunked = (split & 1) != 0;
  if (!head.chunked) head.content_length = bytes.size();
  head.encoding = (split & 2) != 0 ? RequestHead::Encoding::kGzip : RequestHead::Encoding::kIdentity;
  MAYFLY_CHECK(body_outcome(head, bytes, bytes.size()) == body_outcome(head, bytes, 1 + split / 4));
  return 0;
}
