// /metrics (Prometheus text) and /openapi.json.
#include "gateway/gateway.h"

namespace mayfly {
namespace {

struct Counter {
  std::string_view name, help;
  std::uint64_t EndpointMetrics::* value;
};
constexpr Counter kCounters[] = {
    {"mayfly_requests_total", "Requests answered, whatever the answer", &EndpointMetrics::requests},
    {"mayfly_request_errors_total", "Requests answered with an error", &EndpointMetrics::errors},
    {"mayfly_requests_rejected_total", "Requests refused with 429", &EndpointMetrics::rejected},
    {"mayfly_cold_starts_total", "Requests that waited for an instance to start", &EndpointMetrics::cold},
    {"mayfly_request_retries_total", "Requests run again after their instance was lost", &EndpointMetrics::retries},
};
struct Limited {  // by the key of the caller; one series each
  std::string_view reason;
  std::uint64_t EndpointMetrics::* value;
};
constexpr Limited kLimited[] = {
    {"rate_limited", &EndpointMetrics::rate_limited},
    {"concurrency_limited", &EndpointMetrics::concurrency_limited},
};
struct Series {
  std::string_view name, help;
  Histogram EndpointMetrics::* value;
};
constexpr Series kSeries[] = {
    {"mayfly_request_seconds", "From the head of a request to its answer", &EndpointMetrics::total},
    {"mayfly_queue_seconds", "Waiting for a slot of an instance", &EndpointMetrics::queue},
    {"mayfly_infer_seconds", "Inside the model runtime", &EndpointMetrics::infer},
    {"mayfly_cold_start_seconds", "Fork, map and init of instances that a request waited for", &EndpointMetrics::start},
};

std::string label(const Endpoint& e) { return fmt::format("tenant=\"{}\",endpoint=\"{}\",", e.tenant, e.name); }

// One operation of the document: method, path, summary, scope.
struct Operation {
  std::string_view path, method, summary, scope;
};
constexpr Operation kOperations[] = {
    {"/v2", "get", "Server metadata", ""},
    {"/v2/health/live", "get", "Is the server alive", ""},
    {"/v2/health/ready", "get", "Does the server take requests", ""},
    {"/v2/models", "get", "All models with their metadata", "invoke"},
    {"/v2/models/{name}", "get", "Metadata of a model: inputs, outputs, versions", "invoke"},
    {"/v2/models/{name}/ready", "get", "Is the model ready (a model at zero is)", "invoke"},
    {"/v2/models/{name}/infer", "post", "Predict: Open Inference Protocol, JSON or with the binary tensor extension",
     "invoke"},
    {"/v2/models/{name}/versions/{version}", "get", "Metadata of one version", "invoke"},
    {"/v2/models/{name}/versions/{version}/ready", "get", "Is the version ready", "invoke"},
    {"/v2/models/{name}/versions/{version}/infer", "post", "Predict with one version", "invoke"},
    {"/predictions/{name}", "post", "Predict from raw bytes, such as a picture", "invoke"},
    {"/predictions/{name}", "put", "The same, as `curl -T` sends it", "invoke"},
    {"/predictions/{name}/{version}", "post", "Predict from raw bytes with one version", "invoke"},
    {"/predictions/{name}/{version}", "put", "The same, as `curl -T` sends it", "invoke"},
    {"/admin/v1/packages", "post", "Upload a model; answers its digest", "deploy"},
    {"/admin/v1/endpoints", "get", "All endpoints with their state", "deploy"},
    {"/admin/v1/endpoints/{name}", "get", "One endpoint: versions, settings, instances", "deploy"},
    {"/admin/v1/endpoints/{name}", "delete", "Delete an endpoint", "deploy"},
    {"/admin/v1/endpoints/{name}/versions", "post", "Deploy a package as the next version: {package, spec}", "deploy"},
    {"/admin/v1/endpoints/{name}/logs", "get", "Latest log lines; ?tail=N", "deploy"},
    {"/admin/v1/instances", "get", "All instances", "deploy"},
    {"/admin/v1/keys", "get", "All keys, without their secrets", "admin"},
    {"/admin/v1/keys", "post", "Make a key: {name, scopes, rate, burst, concurrency, weight}; the secret is shown once",
     "admin"},
    {"/admin/v1/keys/{name}", "delete", "Revoke a key by its id", "admin"},
    {"/admin/v1/keys/{name}", "patch", "Change limits of a key: {rate, burst, concurrency, weight}; null for none",
     "admin"},
    {"/metrics", "get", "Metrics as Prometheus text", "admin"},
    {"/openapi.json", "get", "This document", ""},
};

void append_operation(std::string& out, const Operation& op) {
  fmt::format_to(std::back_inserter(out), R"("{}":{{"summary":"{}",)", op.method, op.summary);
  std::string parameters;
  for (std::string_view p : {"name", "version"}) {
    if (op.path.find(fmt::format("{{{}}}", p)) == std::string_view::npos) continue;
    fmt::format_to(std::back_inserter(parameters),
                   R"({}{{"name":"{}","in":"path","required":true,"schema":{{"type":"string"}}}})",
                   parameters.empty() ? "" : ",", p);
  }
  fmt::format_to(std::back_inserter(out), R"("parameters":[{}],)", parameters);
  if (!op.scope.empty())
    fmt::format_to(std::back_inserter(out), R"("security":[{{"key":[]}}],"x-scope":"{}",)", op.scope);
  out +=
      R"("responses":{"200":{"description":"OK"},"default":{"description":"Error","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Error"}}}}}})";
}

}  // namespace

void Gateway::metrics_page(Response& rs) {
  rs.content_type = "text/plain; version=0.0.4";
  const auto endpoints = control_.all();
  auto out = std::back_inserter(rs.body);
  for (const Counter& m : kCounters) {
    fmt::format_to(out, "# HELP {} {}\n# TYPE {} counter\n", m.name, m.help, m.name);
    for (const auto& e : endpoints) {
      std::string labels = label(*e);
      labels.pop_back();
      fmt::format_to(out, "{}{{{}}} {}\n", m.name, labels, e->metrics.*m.value);
    }
  }
  fmt::format_to(out,
                 "# HELP mayfly_requests_limited_total Requests refused for a limit of their key\n"
                 "# TYPE mayfly_requests_limited_total counter\n");
  for (const auto& e : endpoints) {
    for (const Limited& m : kLimited) {
      fmt::format_to(out, "mayfly_requests_limited_total{{{}reason=\"{}\"}} {}\n", label(*e), m.reason,
                     e->metrics.*m.value);
    }
  }
  for (const Series& m : kSeries) {
    fmt::format_to(out, "# HELP {} {}\n# TYPE {} histogram\n", m.name, m.help, m.name);
    for (const auto& e : endpoints) (e->metrics.*m.value).print(rs.body, m.name, label(*e));
  }
  fmt::format_to(out, "# HELP mayfly_instances Instances by endpoint\n# TYPE mayfly_instances gauge\n");
  for (const auto& [version, pool] : node_.pools()) {
    fmt::format_to(out, "mayfly_instances{{tenant=\"{}\",endpoint=\"{}\",version=\"{}\"}} {}\n", version->tenant,
                   version->endpoint, version->number, pool->instances().size());
  }
}

void Gateway::open_api(Response& rs) {
  rs.body =
      fmt::format(R"({{"openapi":"3.0.3","info":{{"title":"Mayfly","version":"{}"}},"paths":{{)", options_.version);
  for (std::size_t i = 0; i < std::size(kOperations); ++i) {
    const bool same = i > 0 && kOperations[i].path == kOperations[i - 1].path;
    if (!same)
      fmt::format_to(std::back_inserter(rs.body), "{}\"{}\":{{", i > 0 ? "}," : "", kOperations[i].path);
    else
      rs.body += ',';
    append_operation(rs.body, kOperations[i]);
  }
  rs.body += R"(}},"components":{"securitySchemes":{"key":{"type":"http","scheme":"bearer"}},)"
             R"("schemas":{"Error":{"type":"object","required":["error"],"properties":{"error":{"type":"string"}}}}}})";
}

}  // namespace mayfly
