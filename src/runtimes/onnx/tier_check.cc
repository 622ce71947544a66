#include "runtimes/onnx/tier_check.h"

#include <time.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "runtimes/onnx/loaded_model.h"
#include "runtimes/onnx/memory_use.h"
#include "tensor/json.h"

namespace mayfly {
namespace {

constexpr double kGainShare = 0.05, kGainMs = 0.02, kLossShare = 0.02;
constexpr int kMinPairs = 5, kMaxPairs = 60;
constexpr std::int64_t kRowsDim = 8;  // the second shape: a few rows, or a short sequence

double now_ms() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

double median(std::vector<double>& v) {
  const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  return *middle;
}

// Nothing if one of them can't run this shape, or too slowly.
std::optional<TierRuns> time_shape(SlotRunner& mapped, SlotRunner& packed, std::int64_t dim, double budget_ms) {
  const double end = now_ms() + budget_ms;
  TierRuns r;
  r.dim = dim;
  std::vector<double> m, p;
  if (!mapped.probe(dim).ok() || !packed.probe(dim).ok()) return std::nullopt;
  while (r.runs < kMaxPairs && (r.runs < kMinPairs || now_ms() < end)) {
    const auto a = mapped.probe(dim), b = packed.probe(dim);
    if (!a.ok() || !b.ok() || now_ms() > end + budget_ms) return std::nullopt;
    m.push_back(static_cast<double>(*a) / 1e6);
    p.push_back(static_cast<double>(*b) / 1e6);
    ++r.runs;
    r.won += *b < *a ? 1 : 0;
  }
  r.mapped_ms = median(m);
  r.packed_ms = median(p);
  return r;
}

void decide(TierCheck& c, const std::vector<TierRuns>& shapes) {
  if (shapes.empty()) {
    c.reason = "it could not be measured: runs failed or took too long";
    return;
  }
  const auto gain = [](const TierRuns& r) { return (r.mapped_ms - r.packed_ms) / r.mapped_ms; };
  c.shown = *std::max_element(shapes.begin(), shapes.end(),
                              [&](const TierRuns& a, const TierRuns& b) { return gain(a) < gain(b); });
  const auto worse = std::find_if(shapes.begin(), shapes.end(), slower);
  c.worth = clearly_faster(c.shown) && worse == shapes.end();
  if (c.worth) {
    c.reason = fmt::format("packed runs take {:.0f} % less time", gain(c.shown) * 100);
  } else if (clearly_faster(c.shown)) {
    c.reason =
        fmt::format("packed runs are faster with free dimensions of {} and slower with {}", c.shown.dim, worse->dim);
  } else {
    c.reason = "packed runs are not clearly faster: by 5 % and 20 us in two thirds of the runs";
  }
}

}  // namespace

bool clearly_faster(const TierRuns& r) {
  const double gain = r.mapped_ms - r.packed_ms;
  return gain >= kGainMs && gain >= kGainShare * r.mapped_ms && r.won * 3 >= r.runs * 2;
}

bool slower(const TierRuns& r) { return r.packed_ms > r.mapped_ms * (1 + kLossShare) && r.won * 3 <= r.runs; }

TierCheck compare_tiers(const Ort& ort, std::span<const std::byte> artefact, SlotRunner& mapped, std::int64_t free_dim,
                        double run_ms) {
  TierCheck c;
  if (artefact.size() > kTierMaxArtefact || run_ms > kTierMaxRunMs) {
    c.reason = fmt::format("not measured: artefacts over {} MiB or runs over {} ms take too long",
                           kTierMaxArtefact >> 20, kTierMaxRunMs);
    return c;
  }
  const std::uint64_t before = private_bytes();
  const double start = now_ms();
  auto packed = LoadedModel::create(ort, artefact, {.threads = 1, .prepack = true}, ArenaView());
  if (!packed.ok()) {
    c.reason = "the packed form could not be made: " + packed.error().message.substr(0, 200);
    return c;
  }
  c.packed_load_ms = now_ms() - start;
  std::vector<TierRuns> shapes;
  for (const std::int64_t dim : {free_dim, kRowsDim}) {
    if (!shapes.empty() && dim == free_dim) break;
    if (auto r = time_shape(mapped, *(*packed)->runner, dim, kTierBudgetMs / 2)) shapes.push_back(*r);
  }
  const std::uint64_t after = private_bytes();
  c.packed_bytes = after > before ? after - before : 0;
  decide(c, shapes);
  return c;
}

std::string tier_report(const TierCheck& c) {
  std::string out = fmt::format(R"({{"worth":{},"reason":)", c.worth);
  append_json_string(out, c.reason);
  if (c.shown.runs > 0) {
    out += fmt::format(
        R"(,"dim":{},"runs":{},"won":{},"mapped_ms":{:.4f},"packed_ms":{:.4f},"packed_load_ms":{:.2f},"packed_bytes":{})",
        c.shown.dim, c.shown.runs, c.shown.won, c.shown.mapped_ms, c.shown.packed_ms, c.packed_load_ms, c.packed_bytes);
  }
  return out + "}";
}

}  // namespace mayfly
