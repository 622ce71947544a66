#include "base/result.h"

#include <cstring>

namespace mayfly {

int http_status(const Error& e) {
  if (e.reason == "payload_too_large") return 413;
  if (e.reason == "unsupported_media_type") return 415;
  if (e.reason == "head_too_large") return 431;
  if (e.reason == "method_not_allowed") return 405;
  if (e.reason == "queue_full") return 429;
  if (e.reason == "disk_full" || e.reason == "quota_exceeded" || e.reason == "disk_quota_exceeded") return 507;
  if (e.reason == "instance_failed") return 500;
  switch (e.code) {
    case Code::kOk:
      return 200;
    case Code::kCancelled:
      return 499;
    case Code::kInvalidArgument:
    case Code::kOutOfRange:
      return 400;
    case Code::kDeadlineExceeded:
      return 504;
    case Code::kNotFound:
      return 404;
    case Code::kAlreadyExists:
    case Code::kAborted:
      return 409;
    case Code::kFailedPrecondition:
      return 412;
    case Code::kPermissionDenied:
      return 403;
    case Code::kUnauthenticated:
      return 401;
    case Code::kResourceExhausted:
      return 429;
    case Code::kUnimplemented:
      return 501;
    case Code::kUnavailable:
      return 503;
    case Code::kInternal:
    case Code::kDataLoss:
    case Code::kUnknown:
      return 500;
  }
  return 500;
}

int exit_status_for_http(int status) {
  if (status >= 200 && status < 400) return 0;
  switch (status) {
    case 404:
      return 3;
    case 401:
    case 403:
      return 4;
    case 429:
    case 503:
    case 504:
      return 5;
    default:
      return status >= 400 && status < 500 ? 2 : 1;
  }
}

std::string_view code_name(Code code) {
  constexpr std::string_view kNames[] = {
      "ok",        "cancelled",      "unknown",           "invalid_argument",   "deadline_exceeded",
      "not_found", "already_exists", "permission_denied", "resource_exhausted", "failed_precondition",
      "aborted",   "out_of_range",   "unimplemented",     "internal",           "unavailable",
      "data_loss", "unauthenticated"};
  return kNames[static_cast<std::size_t>(code)];
}

Error errno_error(int err, std::string_view what) {
  return make_error(Code::kInternal, "system_call_failed", "{}: {} (errno {})", what, std::strerror(err), err);
}

void check_failed(const char* expr, const char* file, int line) {
  std::fprintf(stderr, "mayfly: bug: check failed: %s at %s:%d\n", expr, file, line);
  std::abort();
}

}  // namespace mayfly
