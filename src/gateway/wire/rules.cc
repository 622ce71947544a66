#include "gateway/wire/rules.h"

#include <algorithm>
#include <array>

namespace mayfly::wire {
namespace {

constexpr std::array<bool, 256> make_target_table() {
  std::array<bool, 256> t{};
  for (unsigned c = 0x21; c < 0x7f; ++c) t[c] = c != '"' && c != '<' && c != '>' && c != '#';
  return t;
}
constexpr auto kTarget = make_target_table();

}  // namespace

Method method_of(std::string_view m) {
  if (m == "POST") return Method::kPost;
  if (m == "GET") return Method::kGet;
  if (m == "HEAD") return Method::kHead;
  if (m == "PUT") return Method::kPut;
  if (m == "DELETE") return Method::kDelete;
  if (m == "OPTIONS") return Method::kOptions;
  if (m == "PATCH") return Method::kPatch;
  return Method::kOther;
}

RequestHead::Encoding encoding_of(std::string_view value) {
  if (value.empty() || iequals(value, "identity")) return RequestHead::Encoding::kIdentity;
  if (iequals(value, "gzip") || iequals(value, "x-gzip")) return RequestHead::Encoding::kGzip;
  if (iequals(value, "deflate")) return RequestHead::Encoding::kDeflate;
  return RequestHead::Encoding::kUnsupported;
}

bool is_target(std::string_view target) {
  return std::all_of(target.begin(), target.end(), [](char c) { return kTarget[static_cast<unsigned char>(c)]; });
}

void split_target(std::string_view t, RequestHead& head) {
  const auto mark = std::min(t.find('?'), t.size());
  head.path = mark == 0 ? std::string_view("/") : t.substr(0, mark);
  head.query = mark == t.size() ? std::string_view() : t.substr(mark + 1);
}

void clear_head(RequestHead& head) {
  auto headers = std::move(head.headers);
  headers.clear();
  head = RequestHead{};
  head.headers = std::move(headers);
}

Error transport_refusal(const RequestHead& head, const BodyPolicy& policy) {
  if (head.content_length.value_or(0) > policy.max_bytes) return too_large(policy.max_bytes);
  const bool has_body = head.chunked || head.content_length.value_or(0) > 0;
  if (has_body && head.encoding == RequestHead::Encoding::kUnsupported) {
    return invalid("unsupported_content_encoding",
                   "cannot read a body with Content-Encoding {}; send it as gzip, deflate or identity",
                   head.header("content-encoding"));
  }
  return Error{Code::kOk, {}, {}};
}

int transport_status(const Error& e) {
  if (e.reason == "head_timeout" || e.reason == "body_timeout") return 408;
  if (e.reason == "unsupported_content_encoding") return 415;
  if (e.reason == "out_of_memory") return 503;
  return 0;
}

Error too_large(std::uint64_t max_bytes) {
  return Error{
      Code::kInvalidArgument, "payload_too_large",
      fmt::format("the request body is larger than the limit of {} bytes; send less at once or raise the limit",
                  max_bytes)};
}

Error body_late() {
  return make_error(Code::kDeadlineExceeded, "deadline_exceeded",
                    "the request body did not arrive whole within the request's timeout; send it faster");
}

Error body_stalled(std::chrono::milliseconds timeout) {
  return make_error(Code::kDeadlineExceeded, "body_timeout",
                    "no byte of the request body arrived within {} ms; send it without a pause", timeout.count());
}

Error client_closed() {
  return Error{Code::kCancelled, "client_closed", "the client closed the connection before the end of the body"};
}

}  // namespace mayfly::wire
