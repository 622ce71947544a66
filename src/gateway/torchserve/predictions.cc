// POST or PUT /predictions/NAME: raw bytes in, TorchServe's way. A picture for endpoints with an image input, else an
// Open Inference Protocol request as JSON.
#include <cstring>

#include "gateway/classes.h"
#include "gateway/predict.h"
#include "tensor/json.h"

namespace mayfly {
Task<Ok> Gateway::predictions(const Request& rq, RequestContext& c, Response& rs) {
  const Version& v = *c.served->version;
  const bool json = !rq.body.empty() && rq.body.front() == '{';
  if (json || v.transform.image_input == 0) {
    if (json) co_return co_await infer(rq, c, rs);
    finish_predict(rq, c, rs,
                   invalid("no_input_transform",
                           "{} declares no image input, so it takes JSON only ({{\"inputs\":[…]}}); deploy it with "
                           "--image-input to post pictures",
                           v.display()));
    co_return Ok{};
  }
  auto fill = [&](Lease& lease) -> Status {
    if (rq.body.size() > lease.input().size()) {
      return invalid("payload_too_large", "the picture has {} bytes; max_request of {} is {}", rq.body.size(),
                     v.display(), lease.input().size());
    }
    std::memcpy(lease.input().data(), rq.body.data(), rq.body.size());
    SlotRequest& s = c.slot_request;
    s.kind = RequestKind::kImage;
    s.input_count = 0;
    s.raw_bytes = rq.body.size();
    s.output_mask = ~0ULL;
    return Ok{};
  };
  c.infer.clear();
  auto print = [&](Lease& lease, const SlotResult& result, Response& out) -> Status {
    MAYFLY_TRY(result_status(v, result));
    if (c.served->settings.classes) {
      out.body += "{\"model_name\":";
      append_json_string(out.body, v.endpoint);
      fmt::format_to(std::back_inserter(out.body), R"(,"model_version":"{}","predictions":)", v.number_text);
      append_classes(out.body, *c.served, result);
      out.body += '}';
      return Ok{};
    }
    std::size_t json_bytes = 0;
    bool any_binary = false;
    return print_infer_response(out.body, json_bytes, any_binary, v.endpoint, v.number_text, c.infer, v.signature,
                                result, lease.output());
  };
  const Status status = co_await predict(c, rs, fill, print);
  finish_predict(rq, c, rs, status);
  co_return Ok{};
}

}  // namespace mayfly
