#include "gateway/http1/head_parser.h"

#include <array>
#include <cstring>

#include "gateway/wire/rules.h"

namespace mayfly::http1 {
namespace {

constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> t{};
  for (unsigned c = '0'; c <= '9'; ++c) t[c] = true;
  for (unsigned c = 'a'; c <= 'z'; ++c) t[c] = true;
  for (unsigned c = 'A'; c <= 'Z'; ++c) t[c] = true;
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) t[static_cast<unsigned char>(c)] = true;
  return t;
}

constexpr std::array<bool, 256> make_value_table() {
  std::array<bool, 256> t{};
  for (unsigned c = 0x20; c < 256; ++c) t[c] = c != 0x7f;
  t['\t'] = true;
  return t;
}

constexpr auto kToken = make_token_table();
constexpr auto kValue = make_value_table();

bool all_of(std::string_view s, const std::array<bool, 256>& table) {
  for (char c : s) {
    if (!table[static_cast<unsigned char>(c)]) return false;
  }
  return true;
}

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::string_view trim(std::string_view s) {
  while (!s.empty() && is_blank(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_blank(s.back())) s.remove_suffix(1);
  return s;
}

Error malformed(const char* what) {
  return invalid("malformed_request", "cannot read the request head: {}; send a request as RFC 9112 has it", what);
}

}  // namespace

void HeadParser::reset() {
  start_ = line_ = scanned_ = end_ = 0;
  wire::clear_head(head_);
}

Result<bool> HeadParser::scan(std::string_view bytes) {
  const std::size_t limit = std::min(bytes.size(), max_bytes_);
  while (scanned_ < limit) {
    // A request begins with a token, so that what is no HTTP (TLS, say) is refused at its first byte.
    if (scanned_ == start_) {
      const char c = bytes[scanned_];
      if (c == '\r') {
        if (limit - scanned_ < 2) break;
        if (bytes[scanned_ + 1] != '\n') return malformed("a carriage return without a line feed");
        start_ = line_ = scanned_ = scanned_ + 2;
        continue;
      }
      if (!kToken[static_cast<unsigned char>(c)]) return malformed("it does not begin with a method");
    }
    const void* found = std::memchr(bytes.data() + scanned_, '\n', limit - scanned_);
    if (found == nullptr) {
      scanned_ = limit;
      break;
    }
    const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - bytes.data());
    if (at == line_ || bytes[at - 1] != '\r') return malformed("a line feed without a carriage return");
    scanned_ = at + 1;
    if (at - 1 == line_) {
      end_ = scanned_;
      return true;
    }
    line_ = scanned_;
  }
  if (bytes.size() >= max_bytes_) {
    return Error{
        Code::kInvalidArgument, "head_too_large",
        fmt::format("the request head is larger than the limit of {} bytes; send fewer or shorter header fields",
                    max_bytes_)};
  }
  return false;
}

Status HeadParser::parse(std::string_view bytes) {
  wire::clear_head(head_);
  minor_ = 1;
  has_host_ = has_transfer_encoding_ = says_close_ = says_keep_alive_ = false;
  std::string_view rest = bytes.substr(start_, end_ - start_);
  bool first = true;
  for (;;) {
    const auto* lf = static_cast<const char*>(std::memchr(rest.data(), '\n', rest.size()));
    const auto length = static_cast<std::size_t>(lf - rest.data());
    const std::string_view line = rest.substr(0, length - 1);  // scan() saw the CR
    rest.remove_prefix(length + 1);
    if (line.empty()) break;
    if (first) {
      MAYFLY_TRY(parse_request_line(line));
    } else {
      MAYFLY_TRY(parse_field(line));
    }
    first = false;
  }
  return check_framing();
}

Status HeadParser::parse_request_line(std::string_view line) {
  const auto a = line.find(' ');
  const auto b = line.rfind(' ');
  if (a == std::string_view::npos || a == b) return malformed("the request line is not METHOD TARGET VERSION");
  head_.method_text = line.substr(0, a);
  head_.target = line.substr(a + 1, b - a - 1);
  if (head_.method_text.empty() || !all_of(head_.method_text, kToken)) return malformed("the method is not a token");
  head_.method = wire::method_of(head_.method_text);
  MAYFLY_TRY(parse_version(line.substr(b + 1)));
  if (head_.target.empty() || !wire::is_target(head_.target)) {
    return malformed("the target is empty or has characters that must be percent-encoded");
  }
  return parse_target();
}

Status HeadParser::parse_version(std::string_view version) {
  if (version == "HTTP/1.1") {
    minor_ = 1;
    return Ok{};
  }
  if (version == "HTTP/1.0") {
    minor_ = 0;
    return Ok{};
  }
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (version.size() == 8 && version.substr(0, 5) == "HTTP/" && digit(version[5]) && version[6] == '.' &&
      digit(version[7])) {
    return invalid("unsupported_http_version", "cannot speak {} here; use HTTP/1.1", version);
  }
  return malformed("the version is not HTTP/1.1");
}

Status HeadParser::parse_target() {
  std::string_view t = head_.target;
  if (t == "*") {
    if (head_.method != Method::kOptions) return malformed("the target * is for OPTIONS only");
    head_.path = t;
    return Ok{};
  }
  if (t.front() != '/') {
    std::size_t scheme = 0;
    if (t.size() >= 7 && iequals(t.substr(0, 7), "http://")) scheme = 7;
    if (t.size() >= 8 && iequals(t.substr(0, 8), "https://")) scheme = 8;
    if (scheme == 0) return malformed("the target is neither a path nor an http URL");
    t.remove_prefix(scheme);
    const auto authority = std::min(t.find_first_of("/?"), t.size());
    if (authority == 0) return malformed("the target URL has no host");
    t.remove_prefix(authority);
  }
  wire::split_target(t, head_);
  return Ok{};
}

Status HeadParser::parse_field(std::string_view line) {
  if (is_blank(line.front())) return malformed("a folded header line");
  const auto colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return malformed("a header line without a name and a colon");
  const std::string_view name = line.substr(0, colon);
  if (!all_of(name, kToken))
    return malformed("a header name has characters that are not allowed, or a blank before its colon");
  const std::string_view value = trim(line.substr(colon + 1));
  if (!all_of(value, kValue)) return malformed("a header value has control characters");
  if (head_.headers.size() == kMaxHeaders) {
    return Error{Code::kInvalidArgument, "head_too_large",
                 fmt::format("the request head has more than {} header fields; send fewer", kMaxHeaders)};
  }
  head_.headers.push_back({name, value});
  return known_field(name, value);
}

Status HeadParser::known_field(std::string_view name, std::string_view value) {
  switch (name.size()) {  // most names are told apart by their length
    case 4:
      if (iequals(name, "host")) return on_host(value);
      break;
    case 6:
      if (iequals(name, "expect") && iequals(value, "100-continue")) head_.expect_continue = true;
      break;
    case 10:
      if (iequals(name, "connection")) on_connection(value);
      break;
    case 14:
      if (iequals(name, "content-length")) return on_content_length(value);
      break;
    case 16:
      if (iequals(name, "content-encoding")) {
        head_.encoding = head_.encoding == RequestHead::Encoding::kIdentity ? wire::encoding_of(value)
                                                                            : RequestHead::Encoding::kUnsupported;
      }
      break;
    case 17:
      if (iequals(name, "transfer-encoding")) return on_transfer_encoding(value);
      break;
    default:
      break;
  }
  return Ok{};
}

Status HeadParser::on_host(std::string_view value) {
  if (has_host_) return malformed("more than one Host");
  if (value.find_first_of(" \t,/@?#\\") != std::string_view::npos) return malformed("the Host is not a host and port");
  has_host_ = true;
  return Ok{};
}

Status HeadParser::on_content_length(std::string_view value) {
  if (value.empty() || value.size() > 18) return malformed("the Content-Length is not a number of at most 18 digits");
  std::uint64_t n = 0;
  for (char c : value) {
    if (c < '0' || c > '9') return malformed("the Content-Length is not a number of at most 18 digits");
    n = n * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (head_.content_length && *head_.content_length != n) return malformed("two Content-Lengths that differ");
  head_.content_length = n;
  return Ok{};
}

Status HeadParser::on_transfer_encoding(std::string_view value) {
  if (has_transfer_encoding_ || !iequals(value, "chunked")) {
    return Error{Code::kUnimplemented, "unsupported_transfer_encoding",
                 "the Transfer-Encoding is not exactly chunked; send the body chunked or with a Content-Length"};
  }
  has_transfer_encoding_ = head_.chunked = true;
  return Ok{};
}

void HeadParser::on_connection(std::string_view value) {
  while (!value.empty()) {
    const auto comma = std::min(value.find(','), value.size());
    const std::string_view option = trim(value.substr(0, comma));
    if (iequals(option, "close")) says_close_ = true;
    if (iequals(option, "keep-alive")) says_keep_alive_ = true;
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
}

Status HeadParser::check_framing() {
  if (head_.chunked && head_.content_length) return malformed("both a Content-Length and a Transfer-Encoding");
  if (minor_ == 0) {
    if (head_.chunked) return malformed("a Transfer-Encoding in HTTP/1.0");
    head_.expect_continue = false;
  } else if (!has_host_) {
    return malformed("no Host");
  }
  head_.keep_alive = !says_close_ && (minor_ == 1 || says_keep_alive_);
  return Ok{};
}

}  // namespace mayfly::http1
