// POST /v2/models/NAME/generate and generate_stream.
#include "worker_ipc/generate.h"

#include "gateway/predict.h"

namespace mayfly {

Task<Ok> Gateway::generate(const Request& rq, RequestContext& c, Response& rs) {
  const Version& v = *c.served->version;
  auto fill = [&](Lease& lease) -> Status {
    InputArea area = lease.area();
    return parse_generate(rq.body, v.signature, c.slot_request, area, c.infer.id);
  };
  auto print = [&](Lease& lease, const SlotResult& result, Response& out) -> Status {
    MAYFLY_TRY(result_status(v, result));
    return print_generate_response(out.body, v.endpoint, v.number_text, c.infer.id, v.signature, result,
                                   lease.output());
  };
  c.infer.clear();
  const Status status = co_await predict(c, rs, fill, print);
  finish_predict(rq, c, rs, status);
  if (!status.ok() || c.spec->route != Route::kGenerateStream) co_return Ok{};
  // One event: the models here answer once. An error before it is an answer with its own status.
  rs.content_type = "text/event-stream";
  const std::string event = fmt::format("data: {}\n\n", rs.body);
  rs.body.clear();
  if (co_await rq.writer->begin(rs)) static_cast<void>(co_await rq.writer->write(event));
  co_return Ok{};
}

}  // namespace mayfly
