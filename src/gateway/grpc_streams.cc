// gRPC calls with streams: ModelStreamInfer, the health service's Watch, and reflection. An answer begins before the
// first message has come, so that whatever fails later is told in the trailers.
#include "gateway/grpc/frame.h"
#include "gateway/grpc/reflection.h"
#include "gateway/grpc/status.h"
#include "gateway/predict.h"
#include "tensor/json.h"
#include "worker_ipc/proto_wire.h"

namespace mayfly {
namespace {

constexpr auto kWatchInterval = std::chrono::milliseconds(250);  // how late Watch tells of a change
constexpr std::uint64_t kReflectionMessage = 64 << 10;

Error stopping() {
  return make_error(Code::kUnavailable, "server_stopping", "the server is stopping; try again in a moment");
}

void end_stream(Response& rs, const Status& status) {
  if (status.ok())
    rs.trailers = grpc::kOkTrailers;
  else
    grpc::render_error(status.error(), rs);
}

}  // namespace

Task<Ok> Gateway::grpc_watch(const Request& rq, RequestContext& c, Response& rs) {
  rs.content_type = grpc::kContentTypeGrpc;
  auto message = grpc::only_message(rq.body, c.grpc.encoding, kReflectionMessage, c.grpc.inflated);
  if (!message.ok()) co_return end_stream(rs, message.error()), Ok{};
  auto service = grpc::read_health_service(*message);
  if (!service.ok()) co_return end_stream(rs, service.error()), Ok{};
  Timer timer(co_await asio::this_coro::executor);
  std::optional<grpc::Serving> told;
  std::string frame;
  while (!rq.cancel->fired()) {
    auto now = grpc_health(*service, c.principal);
    if (!now.ok()) co_return end_stream(rs, now.error()), Ok{};
    if (!rq.writer->begun() && !co_await rq.writer->begin(rs)) break;
    if (told != *now) {
      told = *now;
      frame.clear();
      const std::size_t at = grpc::open_frame(frame);
      grpc::print_health(*now, frame);
      grpc::close_frame(frame, at, false);
      if (!co_await rq.writer->write(frame)) break;
    }
    if (!ready_) co_return end_stream(rs, stopping()), Ok{};
    if (c.deadline_ns != 0 && now_ns() >= c.deadline_ns) {
      const Error late = make_error(Code::kDeadlineExceeded, "deadline_exceeded", "the time of the call has passed");
      co_return end_stream(rs, late), Ok{};
    }
    timer.expires_after(kWatchInterval);
    const CancelScope scope(rq.cancel, [](void* t) { static_cast<Timer*>(t)->cancel(); }, &timer);
    co_await timer.async_wait(use_result);
  }
  co_return Ok{};
}

Task<Ok> Gateway::grpc_reflect(const Request& rq, RequestContext& c, Response& rs) {
  rs.content_type = grpc::kContentTypeGrpc;
  if (!co_await rq.writer->begin(rs)) co_return Ok{};
  grpc::MessageReader messages(*rq.reader, c.grpc.encoding, kReflectionMessage);
  std::string frame;
  for (;;) {
    auto message = co_await messages.next();
    if (!message.ok()) co_return end_stream(rs, message.error()), Ok{};
    if (!*message) co_return end_stream(rs, Ok{}), Ok{};
    frame.clear();
    const std::size_t at = grpc::open_frame(frame);
    if (Status st = grpc::answer_reflection(**message, frame); !st.ok()) co_return end_stream(rs, st), Ok{};
    grpc::close_frame(frame, at, false);
    if (!co_await rq.writer->write(frame)) co_return Ok{};
  }
}

// The answer to one message of a ModelStreamInfer, whatever it is: a stream goes on after a request that failed.
Task<Ok> Gateway::grpc_answer_in_stream(const Request& rq, RequestContext& c, std::string& frame) {
  constexpr std::uint32_t kErrorMessage = 1, kInferResponse = 2, kId = 3;
  Response one;  // for finish_predict: the head of the stream has gone out already
  one.body.swap(frame);
  one.body.clear();
  const std::size_t at = grpc::open_frame(one.body);
  c.phases = {};  // of this message
  Status status = grpc_find_model(rq.body, rq.received_ns, c);
  if (status.ok()) {
    const Version& v = *c.served->version;
    const CallerRegions regions(shared_memory_, c.principal.tenant);
    c.infer.shared_memory = shares_memory(rq) ? &regions : nullptr;
    auto fill = [&](Lease& lease) -> Status {
      InputArea area = lease.area();
      return parse_infer_grpc(c.grpc.infer, v.signature, c.slot_request, area, c.infer);
    };
    auto print = [&](Lease& lease, const SlotResult& result, Response& out) -> Status {
      MAYFLY_TRY(result_status(v, result));
      const LengthLater length(out.body, kInferResponse);
      return print_infer_grpc(out.body, v.endpoint, v.number_text, c.infer, v.signature, result, lease.output(),
                              FinalMark::kFinal);
    };
    status = co_await predict(c, one, fill, print);
    c.infer.shared_memory = nullptr;
    finish_predict(rq, c, one, status);
    c.key_use.end(now_ns());  // between two messages a stream takes nothing of its key
  }
  if (!status.ok()) {
    one.body.clear();
    grpc::open_frame(one.body);
    std::string text;
    append_valid_utf8(text, std::string_view(status.error().message).substr(0, grpc::kMaxMessageText));
    append_bytes_field(one.body, kErrorMessage, text);
    const LengthLater length(one.body, kInferResponse);
    if (!c.grpc.infer.id.empty()) append_bytes_field(one.body, kId, c.grpc.infer.id);
  }
  grpc::close_frame(one.body, at, c.grpc.gzip_answers);
  frame.swap(one.body);
  co_return Ok{};
}

// Requests of one stream run one after the other, so that answers come in order and a client that does not read holds
// up nothing but its own stream.
Task<Ok> Gateway::grpc_infer_stream(const Request& rq, RequestContext& c, Response& rs) {
  rs.content_type = grpc::kContentTypeGrpc;
  if (c.grpc.gzip_answers) rs.headers += "grpc-encoding: gzip\r\n";
  if (!co_await rq.writer->begin(rs)) co_return Ok{};
  grpc::MessageReader messages(*rq.reader, c.grpc.encoding, largest_grpc_message());
  const std::uint64_t deadline_ns = c.deadline_ns;
  std::string frame;
  for (;;) {
    auto message = co_await messages.next();
    if (!message.ok()) co_return end_stream(rs, message.error()), Ok{};
    if (!*message) co_return end_stream(rs, Ok{}), Ok{};
    Request one = rq;
    one.body = **message;
    one.received_ns = now_ns();
    if (deadline_ns != 0) c.grpc.timeout_ns = deadline_ns > one.received_ns ? deadline_ns - one.received_ns : 0;
    co_await grpc_answer_in_stream(one, c, frame);
    if (!co_await rq.writer->write(frame)) co_return Ok{};
  }
}

}  // namespace mayfly
