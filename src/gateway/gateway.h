// Routes requests (routes.h) to the dialects, one folder each: oip/, v1/, torchserve/, sagemaker/, admin/; gRPC is
// grpc_calls.cc and grpc_streams.cc upon grpc/; metrics and the OpenAPI document are metrics_page.cc and openapi.cc;
// what is written down of a prediction is account.cc. Owner: the server; one reactor. on_head decides everything that
// does not need the body: who asks, what for, which version, the deadline; it wakes the version before the body
// arrives.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "async/turns.h"
#include "base/fd.h"
#include "control/control.h"
#include "gateway/arrivals.h"
#include "gateway/grpc/call.h"
#include "gateway/grpc/pages.h"
#include "gateway/http.h"
#include "gateway/oip/shared_memory.h"
#include "gateway/routes.h"
#include "iam/keys.h"
#include "node/node.h"
#include "observe/log.h"
#include "observe/trace_context.h"
#include "store/packages.h"
#include "worker_ipc/oip.h"
#include "worker_ipc/v1.h"

namespace mayfly {

// What is known of one request. Pooled; handed to handle() as its cookie.
struct RequestContext {
  const RouteSpec* spec = nullptr;
  Principal principal;
  KeyUse key_use;          // of a prediction: counts against its key until the context is given back
  std::uint64_t peer = 0;  // where it comes from: Request::peer
  std::string name;        // of the endpoint or key in the path, percent-decoded
  std::string part;        // what the path names besides, percent-decoded
  EndpointPtr endpoint;
  ServedPtr served;
  std::string request_id;
  std::uint64_t deadline_ns = 0;
  std::uint64_t priority = 0;  // as sent: 1 is the highest, 0 none
  TraceContext trace;
  CancelSignal* cancel = nullptr;  // of the request under way
  Phases phases;
  SlotRequest slot_request;  // private until it is submitted
  SlotResult slot_result;
  InferRequest infer;  // its strings and vectors are reused
  V1Request v1;
  grpc::Call grpc;
};

struct GatewayOptions {
  std::string version;  // of this build
  Fd shared_memory;     // the folder of POSIX shared memory, where callers may register it
};

class Gateway final : public HttpHandler {
 public:
  Gateway(GatewayOptions options, Control& control, Node& node, KeyRing& keys, Store& store, PackageStore& packages,
          BlockingPool& blocking, Log& log);
  void set_ready(bool ready) { ready_ = ready; }

  void on_connect(std::uint64_t peer) override;
  BodyPolicy on_head(const Request& request, void*& cookie) override;
  Task<Ok> handle(const Request& request, void* cookie, Response& response) override;
  void on_abort(void* cookie) override;
  void render_error(const Error& error, const RequestHead* head, Response& response) override;

 private:
  RequestContext* take_context();
  void give_back(RequestContext* c);
  Status resolve(const RequestHead& head, const RouteMatch& match, RequestContext& c);
  Status find_endpoint(RequestContext& c, std::string_view version);
  Status find_invoked(const RequestHead& head, RequestContext& c);
  static Status find_label(RequestContext& c, std::string_view label);
  Status begin_use(RequestContext& c, std::uint64_t received_ns);  // admin/keys.cc
  BodyPolicy policy_of(RequestContext& c, std::uint64_t received_ns);
  void expect(RequestContext& c, std::uint64_t received_ns);
  void name_request(const RequestHead& head, RequestContext& c);
  Task<Ok> dispatch(const Request& rq, RequestContext& c, Response& rs);

  // One prediction: lease, fill, run, and once more elsewhere if the instance was lost. `fill` parses the body into
  // slot_request and the slot's input region; `print` renders from the slot. Both run with the lease held.
  template <typename Fill, typename Print>
  Task<Status> predict(RequestContext& c, Response& rs, Fill& fill, Print& print);
  void finish_predict(const Request& rq, RequestContext& c, Response& rs, const Status& status);  // account.cc
  void note_refusal(RequestContext& c, const Error& error, std::uint64_t received_ns);
  Task<Ok> oip(const Request& rq, RequestContext& c, Response& rs);  // oip/
  Task<Ok> infer(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> generate(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> repository(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> server_settings(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> shared_memory_page(const Request& rq, RequestContext& c, Response& rs);
  bool shares_memory(const Request& rq) const { return shared_memory_.enabled() && rq.loopback; }
  Status may_share(const Request& rq) const;  // memory: shared_memory_unsupported
  void triton_page(RequestContext& c, Response& rs);
  Task<Ok> v1(const Request& rq, RequestContext& c, Response& rs);  // v1/
  Task<Ok> v1_predict(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> invocations(const Request& rq, RequestContext& c, Response& rs);  // sagemaker/
  Task<Ok> torchserve(const Request& rq, RequestContext& c, Response& rs);   // torchserve/
  Task<Ok> predictions(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> upload_package(const Request& rq, RequestContext& c, Response& rs);  // admin/
  BodyPolicy grpc_on_head(const Request& request, void*& cookie);               // grpc_calls.cc
  Status grpc_admit(const Request& request, RequestContext& c);
  std::uint64_t largest_grpc_message();
  Status grpc_find_model(std::string_view message, std::uint64_t received_ns, RequestContext& c);
  Task<Ok> grpc_infer(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> grpc_call(const Request& rq, RequestContext& c, Response& rs);
  Status grpc_page(const Request& rq, std::string_view message, RequestContext& c, std::string& out);
  Status grpc_shared_memory(const Request& rq, std::string_view message, RequestContext& c, std::string& out);
  Status grpc_model_page(std::string_view message, RequestContext& c, std::string& out);
  Result<grpc::Serving> grpc_health(std::string_view service, const Principal& principal) const;
  Task<Ok> grpc_watch(const Request& rq, RequestContext& c, Response& rs);  // grpc_streams.cc
  Task<Ok> grpc_reflect(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> grpc_infer_stream(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> grpc_answer_in_stream(const Request& rq, RequestContext& c, std::string& frame);
  Task<Ok> admin(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> deploy(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> keys(const Request& rq, RequestContext& c, Response& rs);  // admin/keys.cc
  void list_keys(RequestContext& c, Response& rs);
  Task<Ok> make_key(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> limit_key(const Request& rq, RequestContext& c, Response& rs);
  void list_endpoints(RequestContext& c, Response& rs);
  Task<Ok> show_endpoint(const Request& rq, RequestContext& c, Response& rs);
  void list_instances(RequestContext& c, Response& rs);
  void explain(RequestContext& c, Response& rs);  // admin/explain.cc
  void show_node(Response& rs);
  void metrics_page(Response& rs);  // metrics_page.cc
  void open_api(Response& rs);      // openapi.cc

  GatewayOptions options_;
  Control& control_;
  Node& node_;
  KeyRing& keys_;
  Store& store_;
  PackageStore& packages_;
  BlockingPool& blocking_;
  Log& log_;
  Arrivals arrivals_;
  Turns key_turns_;  // who changes the limits of a key: store and memory in the same order
  SharedMemory shared_memory_;
  bool ready_ = false;
  std::string log_line_;  // reused
  std::uint64_t id_base_ = 0, id_next_ = 0;
  std::uint64_t largest_message_ = 0, largest_message_at_ = 0;  // as of that many changes of the route table
  std::vector<std::unique_ptr<RequestContext>> contexts_;       // all
  std::vector<RequestContext*> free_contexts_;
};

}  // namespace mayfly
