#include "gateway/grpc/status.h"

#include "tensor/json.h"
#include "worker_ipc/proto_wire.h"

namespace mayfly::grpc {
namespace {

bool may_retry(const Error& e) {
  const int status = http_status(e);
  return status == 429 || status == 503;
}

// google.protobuf.Any
std::string any(std::string_view type, std::string_view message) {
  std::string s;
  append_bytes_field(s, 1, type);
  append_bytes_field(s, 2, message);
  return s;
}

// google.rpc.Status
std::string details(const Error& e, std::string_view text) {
  std::string status, info;
  append_varint_field(status, 1, static_cast<std::uint64_t>(code_of(e)));
  append_bytes_field(status, 2, text);
  append_bytes_field(info, 1, e.reason);
  append_bytes_field(info, 2, kErrorDomain);
  append_bytes_field(status, 3, any("type.googleapis.com/google.rpc.ErrorInfo", info));
  if (may_retry(e)) {
    std::string duration, retry;
    append_varint_field(duration, 1, e.retry_after_s);
    append_bytes_field(retry, 1, duration);
    append_bytes_field(status, 3, any("type.googleapis.com/google.rpc.RetryInfo", retry));
  }
  return status;
}

}  // namespace

Code code_of(const Error& error) { return error.reason == "payload_too_large" ? Code::kResourceExhausted : error.code; }

void append_status(std::string& lines, const Error& error) {
  std::string text;
  append_valid_utf8(text, std::string_view(error.message).substr(0, kMaxMessageText));
  fmt::format_to(std::back_inserter(lines), "grpc-status: {}\r\ngrpc-message: {}\r\nmayfly-reason: {}\r\n",
                 static_cast<int>(code_of(error)), percent_encode(text), error.reason);
  if (may_retry(error)) {
    fmt::format_to(std::back_inserter(lines), "grpc-retry-pushback-ms: {}\r\n",
                   std::uint64_t{error.retry_after_s} * 1000);
  }
  lines += "grpc-status-details-bin: ";
  lines += base64(details(error, text));
  lines += "\r\n";
}

void render_error(const Error& error, Response& rs) {
  rs.status = 200;
  rs.content_type = kContentTypeGrpc;
  rs.body.clear();
  rs.trailers.clear();
  if (error.reason == "unsupported_message_encoding") rs.headers += "grpc-accept-encoding: identity,gzip\r\n";
  append_status(rs.trailers, error);
}

std::string percent_encode(std::string_view message) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte <= 0x7E && c != '%') {
      out += c;
      continue;
    }
    out += '%';
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    for (count += 8; count >= 6; count -= 6) out += kDigits[bits >> (count - 6) & 63];
  }
  if (count > 0) out += kDigits[bits << (6 - count) & 63];
  return out;
}

}  // namespace mayfly::grpc
