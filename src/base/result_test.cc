#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace mayfly {
namespace {

Status fail_if(bool fail) {
  if (fail) return invalid("bad_thing", "thing {} is over the limit of {}", 7, 5);
  return Ok{};
}

Result<int> after(bool fail) {
  MAYFLY_TRY(fail_if(fail));
  return 42;
}

TEST(ResultTest, HoldsAValueOrAnError) {
  Result<int> good = after(false);
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(*good, 42);
  Result<int> bad = after(true);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, Code::kInvalidArgument);
  EXPECT_EQ(bad.error().reason, "bad_thing");
  EXPECT_EQ(bad.error().message, "thing 7 is over the limit of 5");
}

TEST(ResultTest, CarriesMoveOnlyValues) {
  Result<std::unique_ptr<int>> r = std::make_unique<int>(5);
  ASSERT_TRUE(r.ok());
  std::unique_ptr<int> taken = *std::move(r);
  EXPECT_EQ(*taken, 5);
}

// A Result<Error> would be ambiguous by type; the variant is addressed by position.
TEST(ResultTest, StringValueIsNotTakenForAnError) {
  Result<std::string> r = std::string("invalid_setting");
  EXPECT_TRUE(r.ok());
}

TEST(ErrorTest, HttpStatusFollowsTheCode) {
  const std::pair<Code, int> cases[] = {{Code::kOk, 200},
                                        {Code::kCancelled, 499},
                                        {Code::kUnknown, 500},
                                        {Code::kInvalidArgument, 400},
                                        {Code::kDeadlineExceeded, 504},
                                        {Code::kNotFound, 404},
                                        {Code::kAlreadyExists, 409},
                                        {Code::kPermissionDenied, 403},
                                        {Code::kResourceExhausted, 429},
                                        {Code::kFailedPrecondition, 412},
                                        {Code::kAborted, 409},
                                        {Code::kOutOfRange, 400},
                                        {Code::kUnimplemented, 501},
                                        {Code::kInternal, 500},
                                        {Code::kUnavailable, 503},
                                        {Code::kDataLoss, 500},
                                        {Code::kUnauthenticated, 401}};
  for (auto [code, status] : cases) EXPECT_EQ(http_status(Error{code, "x", ""}), status) << code_name(code);
}

TEST(ErrorTest, SomeReasonsHaveAStatusOfTheirOwn) {
  EXPECT_EQ(http_status(Error{Code::kInvalidArgument, "payload_too_large", ""}), 413);
  EXPECT_EQ(http_status(Error{Code::kInvalidArgument, "unsupported_media_type", ""}), 415);
  EXPECT_EQ(http_status(Error{Code::kInvalidArgument, "head_too_large", ""}), 431);
  EXPECT_EQ(http_status(Error{Code::kUnimplemented, "method_not_allowed", ""}), 405);
  EXPECT_EQ(http_status(Error{Code::kUnavailable, "queue_full", ""}), 429);
  EXPECT_EQ(http_status(Error{Code::kUnavailable, "instance_failed", ""}), 500);
}

TEST(ErrorTest, ExitStatusOfTheCommandLine) {
  EXPECT_EQ(exit_status_for_http(200), 0);
  EXPECT_EQ(exit_status_for_http(500), 1);
  EXPECT_EQ(exit_status_for_http(400), 2);
  EXPECT_EQ(exit_status_for_http(413), 2);
  EXPECT_EQ(exit_status_for_http(404), 3);
  EXPECT_EQ(exit_status_for_http(401), 4);
  EXPECT_EQ(exit_status_for_http(403), 4);
  EXPECT_EQ(exit_status_for_http(503), 5);
  EXPECT_EQ(exit_status_for_http(504), 5);
  EXPECT_EQ(exit_status_for_http(0), 1);
}

TEST(ErrorTest, EveryCodeHasAName) {
  EXPECT_EQ(code_name(Code::kOk), "ok");
  EXPECT_EQ(code_name(Code::kUnauthenticated), "unauthenticated");
}

TEST(ErrorTest, ErrnoErrorNamesTheCallAndTheNumber) {
  const Error e = errno_error(ENOENT, "open x");
  EXPECT_EQ(e.reason, "system_call_failed");
  EXPECT_EQ(e.message, "open x: No such file or directory (errno 2)");
}

TEST(CheckDeathTest, SaysWhatAndWhere) { EXPECT_DEATH(MAYFLY_CHECK(1 == 2), "check failed: 1 == 2 at .*result_test"); }

}  // namespace
}  // namespace mayfly
