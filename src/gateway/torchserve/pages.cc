// TorchServe's pages: health, the list of models and their descriptions, explanations.
// Source: TorchServe docs, inference_api.md and management_api.md.
#include <charconv>

#include "gateway/gateway.h"
#include "tensor/json_parse.h"

namespace mayfly {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostModels = 100;  // of one page, as in TorchServe

std::string text(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string_view worker_status(const Instance& i) {
  if (i.phase() == InstancePhase::kStarting) return "LOADING";
  return i.phase() == InstancePhase::kReady || i.phase() == InstancePhase::kParked ? "READY" : "UNLOADING";
}

Json describe(const Node& node, const ServedVersion& s) {
  const Version& v = *s.version;
  Json workers = Json::array();
  std::uint32_t waiting = 0;
  if (const Pool* p = node.find(v)) {
    waiting = p->waiting();
    for (const auto& i : p->instances()) {
      workers.push_back({{"id", std::to_string(i->id())},
                         {"status", worker_status(*i)},
                         {"memoryUsage", i->memory_bytes()},
                         {"pid", i->pid()},
                         {"gpu", false}});
    }
  }
  return {
      {"modelName", v.endpoint},
      {"modelVersion", v.number_text},
      {"modelUrl", s.package},
      {"runtime", "onnxruntime"},
      {"minWorkers", v.settings.min_instances},
      {"maxWorkers", v.settings.max_instances},
      {"batchSize", 1},
      {"maxBatchDelay", 0},
      {"loadedAtStartup", v.settings.min_instances > 0},
      {"workers", std::move(workers)},
      {"jobQueueStatus",
       {{"remainingCapacity", v.settings.queue - std::min(v.settings.queue, waiting)}, {"pendingRequests", waiting}}}};
}

// ?limit=N&next_page_token=N
std::size_t query_number(std::string_view query, std::string_view key, std::size_t otherwise) {
  while (!query.empty()) {
    const auto amp = query.find('&');
    const std::string_view pair = query.substr(0, amp);
    query = amp == std::string_view::npos ? std::string_view() : query.substr(amp + 1);
    if (!pair.starts_with(key) || pair.substr(key.size(), 1) != "=") continue;
    std::size_t n = otherwise;
    std::from_chars(pair.data() + key.size() + 1, pair.data() + pair.size(), n);
    return n;
  }
  return otherwise;
}

}  // namespace

Task<Ok> Gateway::torchserve(const Request& rq, RequestContext& c, Response& rs) {
  switch (c.spec->route) {
    case Route::kPredictions:
      co_return co_await predictions(rq, c, rs);
    case Route::kPing:
      rs.body = ready_ ? R"({"status":"Healthy"})" : R"({"status":"Unhealthy"})";
      rs.status = ready_ ? 200 : 503;
      break;
    case Route::kApiDescription:
      open_api(rs);
      break;
    case Route::kTorchModels: {
      const auto all = control_.list(c.principal.tenant);
      const std::size_t first = query_number(rq.head->query, "next_page_token", 0);
      const std::size_t limit =
          std::clamp<std::size_t>(query_number(rq.head->query, "limit", kMostModels), 1, kMostModels);
      Json models = Json::array();
      std::size_t i = first;
      for (; i < all.size() && i - first < limit; ++i)
        models.push_back({{"modelName", all[i]->name}, {"modelUrl", all[i]->live->package}});
      Json page = {{"models", std::move(models)}};
      if (i < all.size()) page["nextPageToken"] = std::to_string(i);
      rs.body = text(page);
      break;
    }
    case Route::kTorchModel:
      rs.body = text(Json::array({describe(node_, *c.served)}));
      break;
    default:
      render_error(make_error(Code::kUnimplemented, "not_supported",
                              "{} does not explain its predictions; /predictions gives its outputs",
                              c.served->version->display()),
                   rq.head, rs);
  }
  co_return Ok{};
}

}  // namespace mayfly
