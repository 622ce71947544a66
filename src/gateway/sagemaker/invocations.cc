// SageMaker: the container contract (POST /invocations) and the runtime API (POST /endpoints/NAME/invocations). The
// content type says what the body is: JSON (V1, V2 or an array of rows), text/csv, or a picture. Source: AWS, "Use your
// own inference code with hosting services" and the API reference of InvokeEndpoint.
#include "gateway/classes.h"
#include "gateway/predict.h"
#include "worker_ipc/csv.h"

namespace mayfly {
namespace {

enum class BodyKind : std::uint8_t { kV2, kV1, kRows, kCsv, kRaw, kUnknown };

// A media type without its parameters.
std::string_view media_type(std::string_view header) {
  const std::string_view type = header.substr(0, header.find(';'));
  return type.substr(0, type.find_last_not_of(" \t") + 1);
}

BodyKind kind_of(std::string_view content_type, std::string_view body) {
  const std::string_view type = media_type(content_type);
  if (iequals(type, "text/csv")) return BodyKind::kCsv;
  if (iequals(type.substr(0, 6), "image/") || iequals(type, "application/x-image") ||
      iequals(type, "application/octet-stream"))
    return BodyKind::kRaw;
  if (!type.empty() && !iequals(type, "application/json") && !iequals(type, "application/x-www-form-urlencoded"))
    return BodyKind::kUnknown;
  const auto first = body.find_first_not_of(" \r\n\t");
  if (first != std::string_view::npos && body[first] == '[') return BodyKind::kRows;
  return body.find("\"datatype\"") != std::string_view::npos ? BodyKind::kV2 : BodyKind::kV1;
}

}  // namespace

// The endpoint of /invocations: what the header names, else the tenant's only one.
Status Gateway::find_invoked(const RequestHead& head, RequestContext& c) {
  const std::string_view target = head.header("x-amzn-sagemaker-target-model");
  if (c.spec->route == Route::kInvocations) {
    if (!target.empty()) {
      c.name = target;
    } else {
      const auto all = control_.list(c.principal.tenant);
      if (all.size() != 1) {
        std::string names;
        for (std::size_t i = 0; i < all.size() && i < 20; ++i) names += (i > 0 ? ", " : "") + all[i]->name;
        return make_error(Code::kNotFound, "model_not_found",
                          "/invocations serves a tenant's only endpoint, and there are {}{}{}; name one in the header "
                          "X-Amzn-SageMaker-Target-Model",
                          all.size(), names.empty() ? "" : ": ", names);
      }
      c.name = all[0]->name;
    }
  } else if (!target.empty()) {
    return invalid(
        "invalid_value",
        "X-Amzn-SageMaker-Target-Model is \"{}\", but an endpoint serves one model; leave it out, or invoke the "
        "endpoint of that name",
        target.substr(0, 200));
  }
  return find_endpoint(c, head.header("x-amzn-sagemaker-target-variant"));
}

Task<Ok> Gateway::invocations(const Request& rq, RequestContext& c, Response& rs) {
  const std::string_view content_type = rq.head->header("content-type");
  fmt::format_to(std::back_inserter(rs.headers), "x-Amzn-Invoked-Production-Variant: {}\r\nx-amzn-RequestId: {}\r\n",
                 c.served->version->number_text, c.request_id);
  const BodyKind kind = kind_of(content_type, rq.body);
  switch (kind) {
    case BodyKind::kV2:
      co_return co_await infer(rq, c, rs);
    case BodyKind::kV1:
      co_return co_await v1_predict(rq, c, rs);
    case BodyKind::kRaw:
      co_return co_await predictions(rq, c, rs);
    case BodyKind::kUnknown:
      finish_predict(
          rq, c, rs,
          invalid("unsupported_media_type",
                  "the content type \"{}\" is not taken; send application/json, text/csv or a picture (image/*, "
                  "application/x-image, application/octet-stream)",
                  content_type.substr(0, 200)));
      co_return Ok{};
    case BodyKind::kRows:
    case BodyKind::kCsv:
      break;
  }
  const Version& v = *c.served->version;
  auto fill = [&](Lease& lease) -> Status {
    InputArea area = lease.area();
    if (kind == BodyKind::kCsv) return parse_csv(rq.body, v.signature, c.slot_request, area, c.v1);
    return parse_bare_rows(rq.body, v.signature, c.slot_request, area, c.v1);
  };
  auto print = [&](Lease& lease, const SlotResult& result, Response& out) -> Status {
    MAYFLY_TRY(result_status(v, result));
    if (!iequals(media_type(rq.head->header("accept")), "text/csv"))
      return print_v1_response(out.body, c.v1, v.signature, result, lease.output());
    out.content_type = "text/csv";
    return print_csv(out.body, c.v1.rows, v.signature, result, lease.output());
  };
  const Status status = co_await predict(c, rs, fill, print);
  finish_predict(rq, c, rs, status);
  co_return Ok{};
}

}  // namespace mayfly
