// mayfly_bench: one measurement per call, its result as a line of JSON on stdout; kUsage is the manual. Driven by the
// Python programs of bench/ and tests/soak/. Exit status: 0 measured, 1 could not be measured (why is on stderr), 2 bad
// usage.
#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "bench.h"

namespace mayfly::bench {
namespace {

constexpr std::string_view kUsage = R"(usage:
mayfly_bench load --port N --request FILE [--expect FILE] [--request FILE …] [options]
  FILE holds a whole HTTP/1.1 request, head and body. --expect: bytes that the body of each answer to the request before it
  must have. Several requests are sent in turn.
mayfly_bench grpc --port N --model NAME --input NAME:DATATYPE:1x4 --request FILE [--expect FILE] … [options]
  FILE holds the input's raw bytes; ModelInfer is called with them.
    --connections N    1 by default
    --streams N        open calls on each connection (grpc only), 1 by default
    --count N          closed loop: requests to measure
    --warmup N         closed loop: requests before those
    --seconds S        without --count: start requests for so long; SIGTERM ends it early
    --rate R           open loop: R requests a second for --seconds, latencies from the time that each was due
    --timeout S        give up on an answer after so long, 60 by default
    --key SECRET       send it as bearer token
    --tolerate         count what failed instead of ending with status 1
mayfly_bench floor LIBRARY MODEL WARMUP COUNT DIM…
  runs the model in this process.
mayfly_bench fork-exec LIBRARY MODEL onnx|ort COUNT
  a process for each request: forked, executed, runs the model once on zeros, answers.
)";

struct Arguments {
  LoadOptions load;
  std::vector<std::pair<std::string, std::string>> files;  // request, expected bytes
  std::string model, input;
  bool tolerate = false;
};

Result<double> number(std::string_view text) {
  double n = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc{} || end != text.data() + text.size() || !(n >= 0) || n > 1e12) {
    return invalid("bad_usage", "\"{}\" is not a number from 0 to 1e12", text);
  }
  return n;
}

Result<std::string> content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return invalid("bad_usage", "cannot read \"{}\"", path);
  return std::string{std::istreambuf_iterator<char>(file), {}};
}

Status set(Arguments& a, std::string_view flag, const char* value) {
  LoadOptions& o = a.load;
  if (flag == "--request") {
    auto text = content(value);
    if (!text.ok()) return std::move(text.error());
    a.files.emplace_back(std::move(*text), "");
    return Ok{};
  }
  if (flag == "--expect") {
    auto text = content(value);
    if (!text.ok()) return std::move(text.error());
    if (a.files.empty()) return invalid("bad_usage", "--expect stands after the --request that it belongs to");
    a.files.back().second = std::move(*text);
    return Ok{};
  }
  const std::map<std::string_view, std::string*> texts = {
      {"--key", &o.key}, {"--model", &a.model}, {"--input", &a.input}};
  if (const auto found = texts.find(flag); found != texts.end()) {
    *found->second = value;
    return Ok{};
  }
  auto n = number(value);
  if (!n.ok()) return std::move(n.error());
  const auto whole = static_cast<std::size_t>(*n);
  const std::map<std::string_view, std::size_t*> counts = {
      {"--connections", &o.connections}, {"--streams", &o.streams}, {"--count", &o.count}, {"--warmup", &o.warmup}};
  const std::map<std::string_view, double*> reals = {
      {"--seconds", &o.seconds}, {"--rate", &o.rate}, {"--timeout", &o.timeout_s}};
  if (flag == "--port" && whole <= 65535) {
    o.port = static_cast<std::uint16_t>(whole);
  } else if (const auto count = counts.find(flag); count != counts.end()) {
    *count->second = whole;
  } else if (const auto real = reals.find(flag); real != reals.end()) {
    *real->second = *n;
  } else {
    return invalid("bad_usage", "{} {}: no such flag, or out of bounds", flag, value);
  }
  return Ok{};
}

Result<Arguments> parse(std::span<char* const> args) {
  Arguments a;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string_view flag = args[i];
    if (flag == "--tolerate") {
      a.tolerate = true;
      continue;
    }
    if (i + 1 == args.size()) return invalid("bad_usage", "{} has no value", flag);
    MAYFLY_TRY(set(a, flag, args[++i]));
  }
  const LoadOptions& o = a.load;
  if (o.port == 0 || a.files.empty() || o.connections == 0 || o.streams == 0) {
    return invalid("bad_usage", "--port, --request, and at least one connection and stream are needed");
  }
  if (o.count == 0 && o.seconds == 0) return invalid("bad_usage", "--count or --seconds is needed");
  if (o.rate > 0 && (o.count > 0 || o.warmup > 0 || o.seconds == 0)) {
    return invalid("bad_usage", "--rate takes --seconds, not --count or --warmup");
  }
  return a;
}

// HTTP: the request as it is, the key added to its head.
Status add_http_cases(Arguments& a) {
  if (a.load.streams != 1) return invalid("bad_usage", "--streams is for grpc");
  for (auto& [request, expect] : a.files) {
    const auto end = request.find("\r\n\r\n");
    if (end == std::string::npos) return invalid("bad_usage", "a request has no empty line after its head");
    if (!a.load.key.empty()) request.insert(end, "\r\nAuthorization: Bearer " + a.load.key);
    a.load.cases.push_back({std::move(request), std::move(expect)});
  }
  return Ok{};
}

// gRPC: `input` is NAME:DATATYPE:1x4.
Status add_grpc_cases(Arguments& a) {
  a.load.protocol = Protocol::kGrpc;
  const auto dims_at = a.input.rfind(':');
  const auto type_at = dims_at == std::string::npos ? dims_at : a.input.rfind(':', dims_at - 1);
  if (a.model.empty() || type_at == std::string::npos) {
    return invalid("bad_usage", "grpc needs --model NAME and --input NAME:DATATYPE:1x4");
  }
  std::vector<std::int64_t> shape;
  for (std::string_view rest = std::string_view(a.input).substr(dims_at + 1); !rest.empty();) {
    const auto x = rest.find('x');
    auto n = number(rest.substr(0, x));
    if (!n.ok()) return std::move(n.error());
    shape.push_back(static_cast<std::int64_t>(*n));
    rest = x == std::string_view::npos ? "" : rest.substr(x + 1);
  }
  const std::string datatype = a.input.substr(type_at + 1, dims_at - type_at - 1);
  for (auto& [raw, expect] : a.files) {
    a.load.cases.push_back(
        {encode_infer_request(a.model, a.input.substr(0, type_at), datatype, shape, raw), std::move(expect)});
  }
  return Ok{};
}

nlohmann::json summary(std::vector<float> us) {
  std::sort(us.begin(), us.end());
  const std::size_t n = us.size();
  const auto at = [&](double q) {
    return n == 0 ? 0.0
                  : static_cast<double>(us[std::min(n - 1, static_cast<std::size_t>(q * static_cast<double>(n)))]);
  };
  return {{"count", n},        {"min_us", at(0)},    {"p50_us", at(0.5)},
          {"p90_us", at(0.9)}, {"p99_us", at(0.99)}, {"max_us", at(1)}};
}

// The numbers of the 200s stand at the top; "classes" has those of every outcome that occurred.
void print(const Report& r) {
  nlohmann::json out = summary(r.us[static_cast<std::size_t>(Outcome::kOk)]);
  for (std::size_t i = 0; i < r.us.size(); ++i) {
    if (!r.us[i].empty()) out["classes"][std::string(kOutcomeNames[i])] = summary(r.us[i]);
  }
  for (const Failure& f : r.failures) {
    out["failures"].push_back({{"unix_s", f.unix_s},
                               {"class", kOutcomeNames[static_cast<std::size_t>(f.outcome)]},
                               {"us", f.us},
                               {"text", f.text}});
  }
  out["failed"] = r.failed();
  out["seconds"] = r.seconds;
  out["client_cpu_s"] = r.cpu_s;
  out["ok_in_time"] = r.ok_in_time;
  out["unsent"] = r.unsent;
  out["lag_p99_us"] = summary(r.lag_us)["p99_us"];
  out["reconnects"] = r.reconnects;
  fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

int complain(const Error& e) {
  fmt::print(stderr, "mayfly_bench: {}: {}\n", e.reason, e.message);
  return e.reason == "bad_usage" ? 2 : 1;
}

int run_requests(std::string_view verb, std::span<char* const> args) {
  auto a = parse(args);
  if (!a.ok()) return complain(a.error());
  if (auto added = verb == "grpc" ? add_grpc_cases(*a) : add_http_cases(*a); !added.ok())
    return complain(added.error());
  auto report = run_load(a->load);
  if (!report.ok()) return complain(report.error());
  if (report->failed() != 0 && !a->tolerate) {
    const Failure& f = report->failures.front();
    fmt::print(stderr, "mayfly_bench: {} requests failed; the first ({}):\n{}\n", report->failed(),
               kOutcomeNames[static_cast<std::size_t>(f.outcome)], f.text);
    return 1;
  }
  print(*report);
  return 0;
}

int run_in_process(std::span<char* const> args) {
  std::vector<std::size_t> numbers;
  for (const char* text : args.subspan(std::min<std::size_t>(2, args.size()))) {
    auto n = number(text);
    if (!n.ok()) return complain(n.error());
    numbers.push_back(static_cast<std::size_t>(*n));
  }
  if (numbers.size() < 3 || numbers.size() > 2 + kMaxRank) {
    return complain(invalid("bad_usage", "floor LIBRARY MODEL WARMUP COUNT DIM..."));
  }
  Shape shape;
  for (std::size_t i = 2; i < numbers.size(); ++i) shape.dims[shape.rank++] = static_cast<std::int64_t>(numbers[i]);
  auto report = run_floor(args[0], args[1], shape, numbers[0], numbers[1]);
  if (!report.ok()) return complain(report.error());
  print(*report);
  return 0;
}

// once: the worker of fork-exec.
int run_worker(std::span<char* const> args, bool once) {
  const std::string_view format = args.size() > 2 ? args[2] : "";
  if (args.size() != (once ? 3U : 4U) || (format != "onnx" && format != "ort"))
    return complain(invalid("bad_usage", "fork-exec LIBRARY MODEL onnx|ort COUNT"));
  if (once) {
    const Status answered = run_once_and_answer(args[0], args[1], format == "ort");
    return answered.ok() ? 0 : complain(answered.error());
  }
  auto count = number(args[3]);
  if (!count.ok()) return complain(count.error());
  auto report = run_fork_exec(args[0], args[1], format == "ort", static_cast<std::size_t>(*count));
  if (!report.ok()) return complain(report.error());
  print(*report);
  return 0;
}

int run(std::span<char* const> args) {
  const std::string_view verb = args.size() > 1 ? args[1] : "";
  if (verb == "load" || verb == "grpc") return run_requests(verb, args.subspan(2));
  if (verb == "floor") return run_in_process(args.subspan(2));
  if (verb == "fork-exec" || verb == "once") return run_worker(args.subspan(2), verb == "once");
  fmt::print(stderr, "{}", kUsage);
  return 2;
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  return mayfly::bench::run(std::span<char* const>(argv, static_cast<std::size_t>(argc)));
}
