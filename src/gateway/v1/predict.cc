// :predict and :classify of KServe's V1 protocol and TensorFlow Serving's REST API.
#include <algorithm>
#include <cmath>

#include "gateway/classes.h"
#include "gateway/predict.h"
#include "tensor/json.h"
#include "worker_ipc/value_print.h"

namespace mayfly {
namespace {

// The row of `count` scores that begins at element `first`, as [["label", score], …], best first.
void append_classified_row(std::string& out, Dtype t, const std::byte* data, std::uint64_t first, std::uint64_t count,
                           const ClassesOutput& classes, Ranking& order) {
  const std::uint64_t keep = std::min<std::uint64_t>(classes.top, count);
  rank_scores(t, data, first, count, keep, order);
  out += '[';
  for (std::uint64_t i = 0; i < keep; ++i) {
    out += i > 0 ? ",[" : "[";
    const std::uint64_t index = order[i].second;
    append_json_string(out, index < classes.labels.size() ? classes.labels[index] : std::to_string(index));
    if (std::isfinite(order[i].first))
      fmt::format_to(std::back_inserter(out), ",{}]", static_cast<float>(order[i].first));
    else
      out += ",null]";
  }
  out += ']';
}

// {"results": [row, …]}: the scores of each row of the output that holds them.
Status print_classified(std::string& out, const ServedVersion& served, std::uint64_t rows, const SlotResult& r,
                        std::span<const std::byte> region) {
  const Version& v = *served.version;
  auto scores = view_output(v.signature, r, region, v.transform.classes_output);
  if (!scores.ok()) return std::move(scores.error());
  const std::uint64_t count = scores->count;
  if (rows == 0 || count % rows != 0) {
    return invalid("not_batched", "output \"{}\" has {} scores, which is no row for each of {} examples", scores->name,
                   count, rows);
  }
  Ranking order;
  out += "{\"results\":[";
  for (std::uint64_t i = 0; i < rows; ++i) {
    if (i > 0) out += ',';
    append_classified_row(out, scores->dtype, scores->data.data(), i * (count / rows), count / rows,
                          *served.settings.classes, order);
  }
  out += "]}";
  return Ok{};
}

// A picture's classes, in the form that the request asked in.
void print_picture_classes(std::string& out, const V1Request& rq, const ServedVersion& served, const SlotResult& r) {
  const bool rows = rq.form == V1Form::kRows;
  out += rows ? "{\"predictions\":[" : "{\"outputs\":";
  append_classes(out, served, r);
  out += rows ? "]}" : "}";
}

}  // namespace

Task<Ok> Gateway::v1_predict(const Request& rq, RequestContext& c, Response& rs) {
  const Version& v = *c.served->version;
  const bool classify = c.spec->route == Route::kV1Classify;
  if (classify && !c.served->settings.classes) {
    finish_predict(
        rq, c, rs,
        invalid("no_classes",
                "{} declares no classes, so it can't classify; deploy it with output.classes (--labels, --top), "
                "or ask :predict",
                v.display()));
    co_return Ok{};
  }
  V1Options options;
  options.takes_picture = v.transform.image_input != 0;
  if (classify) options.rows_key = "examples";
  auto fill = [&](Lease& lease) -> Status {
    // A picture needs a slot of its own; whether the body is one is known only when it is parsed.
    if (options.takes_picture) lease.go_alone();
    InputArea area = lease.area();
    const auto region = options.takes_picture ? lease.input() : std::span<std::byte>();
    return parse_v1(rq.body, options, v.signature, c.slot_request, area, region, c.v1);
  };
  auto print = [&](Lease& lease, const SlotResult& result, Response& out) -> Status {
    MAYFLY_TRY(result_status(v, result));
    if (classify) return print_classified(out.body, *c.served, c.v1.rows, result, lease.output());
    if (c.v1.picture && c.served->settings.classes) {
      print_picture_classes(out.body, c.v1, *c.served, result);
      return Ok{};
    }
    return print_v1_response(out.body, c.v1, v.signature, result, lease.output());
  };
  const Status status = co_await predict(c, rs, fill, print);
  finish_predict(rq, c, rs, status);
  co_return Ok{};
}

}  // namespace mayfly
