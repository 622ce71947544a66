// /metrics: Prometheus text.
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
    {"mayfly_requests_cancelled_total", "Requests whose caller went away before the answer",
     &EndpointMetrics::cancelled},
    {"mayfly_tier_ups_total", "Instances that changed to the packed form of their model", &EndpointMetrics::tier_ups},
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
    {"mayfly_receive_seconds", "From the head of a request to its whole body", &EndpointMetrics::receive},
    {"mayfly_parse_seconds", "Reading the request into the slot", &EndpointMetrics::parse},
    {"mayfly_print_seconds", "Writing the answer from the slot", &EndpointMetrics::print},
    {"mayfly_queue_seconds", "Waiting for a slot of an instance", &EndpointMetrics::queue},
    {"mayfly_infer_seconds", "Inside the model runtime", &EndpointMetrics::infer},
    {"mayfly_cold_start_seconds", "Fork, map and init of instances that a request waited for", &EndpointMetrics::start},
};

std::string label(const Endpoint& e) { return fmt::format("tenant=\"{}\",endpoint=\"{}\",", e.tenant, e.name); }

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
  fmt::format_to(out, "# HELP mayfly_batch_rows Rows of each run\n# TYPE mayfly_batch_rows histogram\n");
  for (const auto& e : endpoints) e->metrics.rows.print(rs.body, "mayfly_batch_rows", label(*e));
  fmt::format_to(out, "# HELP mayfly_instances Instances by endpoint\n# TYPE mayfly_instances gauge\n");
  for (const auto& [version, pool] : node_.pools()) {
    fmt::format_to(out, "mayfly_instances{{tenant=\"{}\",endpoint=\"{}\",version=\"{}\"}} {}\n", version->tenant,
                   version->endpoint, version->number, pool->instances().size());
  }
}

}  // namespace mayfly
