// Errors in the form of the dialect that a path belongs to: the header Mayfly-Reason is the same in all.
#include "gateway/gateway.h"
#include "gateway/grpc/status.h"
#include "tensor/json.h"

namespace mayfly {
namespace {

int plain_status(const Error& e) {
  if (e.reason == "body_timeout") return 408;
  return e.reason == "http2_required" ? 505 : http_status(e);
}

// TorchServe's exception classes (frontend/server/src/main/java/org/pytorch/serve/http).
std::string_view torchserve_type(const Error& e, int status) {
  if (e.reason == "model_not_found") return "ModelNotFoundException";
  if (e.reason == "version_not_found") return "ModelVersionNotFoundException";
  switch (status) {
    case 400:
    case 408:
      return "BadRequestException";
    case 401:
    case 403:
      return "InvalidKeyException";
    case 404:
      return "ResourceNotFoundException";
    case 405:
      return "MethodNotAllowedException";
    case 413:
      return "RequestEntityTooLargeException";
    case 429:
    case 503:
      return "ServiceUnavailableException";
    case 501:
      return "NotImplementedException";
    default:
      return "InternalServerException";
  }
}

void append_torchserve(const Error& e, Response& rs) {
  fmt::format_to(std::back_inserter(rs.body), R"({{"code":{},"type":"{}","message":)", rs.status,
                 torchserve_type(e, rs.status));
  append_json_string(rs.body, e.message);
  rs.body += ",\"error\":";
  append_json_string(rs.body, e.message);
  rs.body += '}';
}

struct AwsError {
  int status;
  std::string_view code;
};

// The errors of the SageMaker runtime API (InvokeEndpoint). What the platform refuses has a code of its own; what comes
// of the model and its input is a ModelError, 424, as if a container had answered it.
AwsError aws_error(const Error& e, int status) {
  if (e.reason == "missing_key") return {403, "MissingAuthenticationTokenException"};
  if (status == 401) return {403, "UnrecognizedClientException"};
  if (status == 403) return {403, "AccessDeniedException"};
  if (status == 404 || status == 405 || status == 408) return {status, "ValidationError"};
  if (status == 413) return {413, "RequestEntityTooLargeException"};
  if (status == 429) return {429, "ThrottlingException"};
  if (status == 503) return {503, "ServiceUnavailable"};
  if (e.code == Code::kInternal && e.reason != "model_error" && e.reason != "instance_failed")
    return {500, "InternalFailure"};
  return {424, "ModelError"};
}

// `runtime`: /endpoints/NAME/invocations, as AWS answers it; else a container's own /invocations, with plain statuses.
void append_sagemaker(const Error& e, bool runtime, Response& rs) {
  AwsError aws = aws_error(e, rs.status);
  const int original = rs.status;
  // AWS says 400 where there is no such endpoint.
  if (runtime) rs.status = aws.status == 404 ? 400 : aws.status;
  fmt::format_to(std::back_inserter(rs.headers), "x-amzn-ErrorType: {}\r\n", aws.code);
  fmt::format_to(std::back_inserter(rs.body), R"({{"Code":"{}","Message":)", aws.code);
  append_json_string(rs.body, e.message);
  if (aws.status == 424) {
    fmt::format_to(std::back_inserter(rs.body), R"(,"OriginalStatusCode":{},"OriginalMessage":)", original);
    append_json_string(rs.body, e.message);
  }
  rs.body += '}';
}

}  // namespace

void Gateway::render_error(const Error& error, const RequestHead* head, Response& rs) {
  if (head != nullptr && error.reason != "http2_required" && grpc::is_grpc(*head)) return grpc::render_error(error, rs);
  rs.status = plain_status(error);
  rs.content_type = "application/json";
  rs.body.clear();
  const std::string_view path = head == nullptr ? std::string_view() : head->path;
  switch (dialect_of(path)) {
    case Dialect::kTorchServe:
      append_torchserve(error, rs);
      break;
    case Dialect::kSageMaker:
      append_sagemaker(error, path.starts_with("/endpoints/"), rs);
      break;
    case Dialect::kOip:
      rs.body += "{\"error\":";
      append_json_string(rs.body, error.message);
      rs.body += '}';
  }
  fmt::format_to(std::back_inserter(rs.headers), "Mayfly-Reason: {}\r\n", error.reason);
  if (rs.status == 429 || rs.status == 503)
    fmt::format_to(std::back_inserter(rs.headers), "Retry-After: {}\r\n", error.retry_after_s);
  if (rs.status == 401) rs.headers += "WWW-Authenticate: Bearer\r\n";
}

}  // namespace mayfly
