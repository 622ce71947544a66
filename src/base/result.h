// Errors and results. Every fallible function returns Result<T>; no exception crosses a function of ours.
//
// Error = canonical code (the gRPC set) + a stable, documented reason (snake_case) + a message that says what was
// attempted, on what, with which limit and what to do. docs/errors.md lists the reasons.
// An OK Result<T> allocates nothing beyond T.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace mayfly {

enum class Code : std::uint8_t {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

struct Error {
  Code code = Code::kUnknown;
  std::string reason;               // stable, e.g. "tensor_shape_mismatch"
  std::string message;              // for a person
  std::uint32_t retry_after_s = 1;  // of a refusal that passes (429, 503): asking again earlier is of no use
};

// HTTP status of an error: by its code, but payload_too_large is 413, unsupported_media_type 415, head_too_large 431,
// method_not_allowed 405, queue_full 429, disk_full, quota_exceeded and disk_quota_exceeded 507, instance_failed 500.
int http_status(const Error& e);
// Exit status of the command line for a HTTP status: 0 ok, 1 failed, 2 bad usage or input, 3 not found,
// 4 not permitted, 5 unavailable or out of time.
int exit_status_for_http(int status);
std::string_view code_name(Code code);  // "invalid_argument"

struct Ok {};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return std::get<0>(v_); }
  const T& value() const& { return std::get<0>(v_); }
  T&& value() && { return std::get<0>(std::move(v_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::get<0>(std::move(v_)); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  Error& error() & { return std::get<1>(v_); }
  const Error& error() const& { return std::get<1>(v_); }

 private:
  std::variant<T, Error> v_;
};
using Status = Result<Ok>;

template <typename... A>
Error make_error(Code code, std::string reason, fmt::format_string<A...> f, A&&... a) {
  return Error{code, std::move(reason), fmt::format(f, std::forward<A>(a)...)};
}
template <typename... A>
Error invalid(std::string reason, fmt::format_string<A...> f, A&&... a) {
  return Error{Code::kInvalidArgument, std::move(reason), fmt::format(f, std::forward<A>(a)...)};
}
Error errno_error(int err, std::string_view what);  // kInternal, reason "system_call_failed"

[[noreturn]] void check_failed(const char* expr, const char* file, int line);
}  // namespace mayfly

#define MAYFLY_CHECK(expr) ((expr) ? void(0) : ::mayfly::check_failed(#expr, __FILE__, __LINE__))
// Leaves the function with the error of `expr`, if it is one.
#define MAYFLY_TRY(expr)                                                               \
  do {                                                                                 \
    if (auto mayfly_r_ = (expr); !mayfly_r_.ok()) return std::move(mayfly_r_.error()); \
  } while (0)
