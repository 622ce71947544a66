// Routes requests to the dialects: Open Inference Protocol (oip.cc), /predictions (predictions.cc), admin (admin.cc,
// admin_keys.cc), metrics and the OpenAPI document (pages.cc). Owner: the server; one reactor. on_head decides
// everything that does not need the body: who asks, what for, which version, the deadline; it wakes the version before
// the body arrives.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "async/turns.h"
#include "control/control.h"
#include "gateway/http.h"
#include "iam/keys.h"
#include "node/node.h"
#include "observe/log.h"
#include "store/packages.h"
#include "worker_ipc/oip.h"

namespace mayfly {

enum class Route : std::uint8_t {
  kServerInfo,
  kLive,
  kReady,
  kModelList,
  kModelMetadata,
  kModelReady,
  kInfer,
  kPredictions,
  kPackages,
  kEndpoints,
  kEndpoint,
  kVersions,
  kInstances,
  kEndpointLogs,
  kKeys,
  kKey,
  kMetrics,
  kOpenApi,
};

// Routes that run a model: the limits of the caller's key hold for them.
inline bool is_prediction(Route route) { return route == Route::kInfer || route == Route::kPredictions; }

// What is known of one request. Pooled; handed to handle() as its cookie.
struct RequestContext {
  Route route = Route::kServerInfo;
  Method method = Method::kGet;
  Principal principal;
  KeyUse key_use;    // of a prediction: counts against its key until the context is given back
  std::string name;  // of the endpoint or key in the path, percent-decoded
  EndpointPtr endpoint;
  ServedPtr served;
  std::string request_id;
  std::uint64_t deadline_ns = 0;
  Phases phases;
  SlotRequest slot_request;  // private until it is submitted
  SlotResult slot_result;
  InferRequest infer;  // its strings and vectors are reused
};

struct GatewayOptions {
  std::string version;  // of this build
};

class Gateway final : public HttpHandler {
 public:
  Gateway(GatewayOptions options, Control& control, Node& node, KeyRing& keys, Store& store, PackageStore& packages,
          BlockingPool& blocking, Log& log);
  void set_ready(bool ready) { ready_ = ready; }

  BodyPolicy on_head(const Request& request, void*& cookie) override;
  Task<Ok> handle(const Request& request, void* cookie, Response& response) override;
  void on_abort(void* cookie) override;
  void render_error(const Error& error, const RequestHead* head, Response& response) override;

 private:
  RequestContext* take_context();
  void give_back(RequestContext* c);
  static void render_error(const Error& error, Response& response);  // {"error": …}, as most dialects say it
  Status resolve(const RequestHead& head, RequestContext& c);
  Status resolve_admin(std::string_view rest, RequestContext& c);
  Status resolve_model(std::string_view rest, RequestContext& c);
  Status find_endpoint(RequestContext& c, std::string_view version);
  Status begin_use(RequestContext& c, std::uint64_t received_ns);  // admin_keys.cc
  BodyPolicy policy_of(RequestContext& c, std::uint64_t received_ns);
  Task<Ok> dispatch(const Request& rq, RequestContext& c, Response& rs);

  // One prediction: lease, fill, run, and once more elsewhere if the instance was lost. `fill` parses the body into
  // slot_request and the slot's input region; `print` renders from the slot. Both run with the lease held.
  template <typename Fill, typename Print>
  Task<Status> predict(RequestContext& c, Response& rs, Fill& fill, Print& print);
  void finish_predict(const Request& rq, RequestContext& c, Response& rs, const Status& status);
  Task<Ok> infer(const Request& rq, RequestContext& c, Response& rs);        // oip.cc
  Task<Ok> predictions(const Request& rq, RequestContext& c, Response& rs);  // predictions.cc
  void oip_page(RequestContext& c, Response& rs);
  Task<Ok> upload_package(const Request& rq, RequestContext& c, Response& rs);  // admin.cc
  Task<Ok> admin(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> deploy(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> keys(const Request& rq, RequestContext& c, Response& rs);  // admin_keys.cc
  void list_keys(RequestContext& c, Response& rs);
  Task<Ok> make_key(const Request& rq, RequestContext& c, Response& rs);
  Task<Ok> limit_key(const Request& rq, RequestContext& c, Response& rs);
  void list_endpoints(RequestContext& c, Response& rs);
  void show_endpoint(RequestContext& c, Response& rs);
  void list_instances(RequestContext& c, Response& rs);
  void metrics_page(Response& rs);  // pages.cc
  void open_api(Response& rs);

  GatewayOptions options_;
  Control& control_;
  Node& node_;
  KeyRing& keys_;
  Store& store_;
  PackageStore& packages_;
  BlockingPool& blocking_;
  Log& log_;
  Turns key_turns_;  // who changes the limits of a key: store and memory in the same order
  bool ready_ = false;
  std::uint64_t id_base_ = 0, id_next_ = 0;
  std::vector<std::unique_ptr<RequestContext>> contexts_;  // all
  std::vector<RequestContext*> free_contexts_;
};

}  // namespace mayfly
