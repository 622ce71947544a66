// mayfly_bench: one measurement per call, its result as a line of JSON on stdout. Driven by bench/run.py.
//   mayfly_bench load PORT REQUEST_FILE CONNECTIONS WARMUP COUNT     the file holds the whole request, head and body
//   mayfly_bench floor LIBRARY MODEL WARMUP COUNT DIM...             the same model in this process, without a server
// Exit status: 0 measured, 1 could not be measured (why is on stderr), 2 bad usage.
#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <span>
#include <string_view>

#include "bench.h"

namespace mayfly::bench {
namespace {

Result<std::size_t> number(std::string_view text) {
  std::size_t n = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc{} || end != text.data() + text.size())
    return invalid("bad_usage", "\"{}\" is not a number", text);
  return n;
}

Result<std::vector<std::size_t>> numbers(std::span<char* const> texts) {
  std::vector<std::size_t> out;
  for (const char* t : texts) {
    auto n = number(t);
    if (!n.ok()) return std::move(n.error());
    out.push_back(*n);
  }
  return out;
}

Result<Latencies> load(std::span<char* const> args) {
  auto port = number(args[0]);
  auto rest = numbers(args.subspan(2));
  if (!port.ok() || *port > 65535 || !rest.ok() || rest->size() != 3 || (*rest)[0] == 0) {
    return invalid("bad_usage", "load PORT REQUEST_FILE CONNECTIONS WARMUP COUNT");
  }
  std::ifstream file(args[1], std::ios::binary);
  if (!file) return invalid("bad_usage", "cannot read \"{}\"", args[1]);
  LoadOptions o;
  o.port = static_cast<std::uint16_t>(*port);
  o.request.assign(std::istreambuf_iterator<char>(file), {});
  o.connections = (*rest)[0];
  o.warmup = (*rest)[1];
  o.count = (*rest)[2];
  return run_load(o);
}

Result<Latencies> floor(std::span<char* const> args) {
  auto rest = numbers(args.subspan(2));
  if (!rest.ok() || rest->size() < 3 || rest->size() > 2 + kMaxRank) {
    return invalid("bad_usage", "floor LIBRARY MODEL WARMUP COUNT DIM...");
  }
  Shape shape;
  for (std::size_t i = 2; i < rest->size(); ++i) shape.dims[shape.rank++] = static_cast<std::int64_t>((*rest)[i]);
  return run_floor(args[0], args[1], shape, (*rest)[0], (*rest)[1]);
}

void print(Latencies& l) {
  const std::size_t n = l.us.size();
  std::sort(l.us.begin(), l.us.end());
  const auto at = [&](double q) {
    return n == 0 ? 0.0 : l.us[std::min(n - 1, static_cast<std::size_t>(q * static_cast<double>(n)))];
  };
  fmt::print(
      "{{\"count\":{},\"failed\":{},\"seconds\":{:.6f},"
      "\"min_us\":{:.3f},\"p50_us\":{:.3f},\"p90_us\":{:.3f},\"p99_us\":{:.3f},\"max_us\":{:.3f}}}\n",
      n, l.failed, l.seconds, at(0), at(0.5), at(0.9), at(0.99), at(1));
}

int run(std::span<char* const> args) {
  const std::string_view verb = args.size() > 3 ? args[1] : "";
  if (verb != "load" && verb != "floor") {
    fmt::print(stderr,
               "usage: mayfly_bench load PORT REQUEST_FILE CONNECTIONS WARMUP COUNT\n"
               "       mayfly_bench floor LIBRARY MODEL WARMUP COUNT DIM...\n");
    return 2;
  }
  auto result = verb == "load" ? load(args.subspan(2)) : floor(args.subspan(2));
  if (!result.ok()) {
    fmt::print(stderr, "mayfly_bench: {}: {}\n", result.error().reason, result.error().message);
    return result.error().reason == "bad_usage" ? 2 : 1;
  }
  if (result->failed != 0) {
    fmt::print(stderr, "mayfly_bench: {} requests failed; the first answer:\n{}\n", result->failed,
               result->first_failure);
    return 1;
  }
  print(*result);
  return 0;
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  return mayfly::bench::run(std::span<char* const>(argv, static_cast<std::size_t>(argc)));
}
