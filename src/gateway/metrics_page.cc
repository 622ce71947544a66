// /metrics: Prometheus text. Only what has happened: an endpoint that nobody has asked has no series, and a histogram
// without a measurement has none.
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
    {"mayfly_parked_starts_total", "Requests that were the first for a parked instance", &EndpointMetrics::resumed},
    {"mayfly_request_retries_total", "Requests run again after their instance was lost", &EndpointMetrics::retries},
    {"mayfly_requests_cancelled_total", "Requests whose caller went away before the answer",
     &EndpointMetrics::cancelled},
    {"mayfly_connection_wakes_total", "Connections that woke the endpoint before a request came",
     &EndpointMetrics::connection_wakes},
    {"mayfly_artefacts_rebuilt_total", "Artefacts that a start found missing, rebuilt from the package here",
     &EndpointMetrics::rebuilt},
    {"mayfly_artefacts_fetched_total", "Artefacts that a start found missing, and their package too",
     &EndpointMetrics::fetched},
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
    {"mayfly_cold_start_seconds", "Fork, isolate, map and init of instances that a request waited for",
     &EndpointMetrics::start},
    {"mayfly_artefact_wait_seconds", "What requests waited for an artefact to be fetched or rebuilt",
     &EndpointMetrics::fetch},
};

std::string label(const Endpoint& e) { return fmt::format("tenant=\"{}\",endpoint=\"{}\",", e.tenant, e.name); }

}  // namespace

void Gateway::metrics_page(Response& rs) {
  rs.content_type = "text/plain; version=0.0.4";
  std::vector<EndpointPtr> endpoints;  // that have something to tell: thousands may never have been asked
  for (const EndpointPtr& e : control_.all()) {
    const EndpointMetrics& m = e->metrics;
    if (m.requests + m.rate_limited + m.concurrency_limited + m.rows.runs() > 0) endpoints.push_back(e);
  }
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
    for (const auto& e : endpoints) {
      const Histogram& h = e->metrics.*m.value;
      if (h.count() > 0) h.print(rs.body, m.name, label(*e));
    }
  }
  fmt::format_to(out, "# HELP mayfly_batch_rows Rows of each run\n# TYPE mayfly_batch_rows histogram\n");
  for (const auto& e : endpoints) {
    if (e->metrics.rows.runs() > 0) e->metrics.rows.print(rs.body, "mayfly_batch_rows", label(*e));
  }
  fmt::format_to(out, "# HELP mayfly_instances Instances by endpoint\n# TYPE mayfly_instances gauge\n");
  for (const auto& [version, pool] : node_.pools()) {
    const auto parked = std::count_if(pool->instances().begin(), pool->instances().end(),
                                      [](const auto& i) { return i->phase() == InstancePhase::kParked; });
    const auto row = [&](std::string_view state, std::size_t n) {
      fmt::format_to(out, "mayfly_instances{{tenant=\"{}\",endpoint=\"{}\",version=\"{}\",state=\"{}\"}} {}\n",
                     version->tenant, version->endpoint, version->number, state, n);
    };
    row("running", pool->instances().size() - static_cast<std::size_t>(parked));
    row("parked", static_cast<std::size_t>(parked));
  }
  const NodeMemory memory = node_.memory();
  fmt::format_to(out,
                 "# HELP mayfly_memory_budget_bytes Memory that instances and artefacts may take\n"
                 "# TYPE mayfly_memory_budget_bytes gauge\nmayfly_memory_budget_bytes {}\n"
                 "# HELP mayfly_memory_bytes Memory of instances, and of artefacts that are mapped or only cached\n"
                 "# TYPE mayfly_memory_bytes gauge\nmayfly_memory_bytes{{of=\"instances\"}} {}\n"
                 "mayfly_memory_bytes{{of=\"artefacts\"}} {}\nmayfly_memory_bytes{{of=\"cached\"}} {}\n"
                 "# HELP mayfly_evictions_total Idle instances ended because others needed their memory\n"
                 "# TYPE mayfly_evictions_total counter\nmayfly_evictions_total {}\n",
                 memory.budget, memory.instances, memory.artefacts, memory.cached, node_.evictions());
  fmt::format_to(
      out,
      "# HELP mayfly_artefact_builds_total Compile jobs begun, of deploys and of artefacts that were missing\n"
      "# TYPE mayfly_artefact_builds_total counter\nmayfly_artefact_builds_total {}\n",
      control_.artefacts().builds());
  const DiskUse& disk = control_.disk();
  fmt::format_to(out,
                 "# HELP mayfly_disk_bytes Files in the data folder, as of the latest change\n"
                 "# TYPE mayfly_disk_bytes gauge\nmayfly_disk_bytes{{kind=\"packages\"}} {}\n"
                 "mayfly_disk_bytes{{kind=\"artefacts\"}} {}\nmayfly_disk_bytes{{kind=\"temporary\"}} {}\n"
                 "# HELP mayfly_disk_quota_bytes What they may take together; 0: no quota\n"
                 "# TYPE mayfly_disk_quota_bytes gauge\nmayfly_disk_quota_bytes {}\n"
                 "# HELP mayfly_disk_dropped_total Files dropped to keep the quota\n"
                 "# TYPE mayfly_disk_dropped_total counter\nmayfly_disk_dropped_total {}\n",
                 disk.packages, disk.artefacts, disk.temporary, disk.quota, disk.dropped);
}

}  // namespace mayfly
