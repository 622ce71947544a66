// /openapi.json, made from the route table (routes.cc) and the schemas of openapi_components.cc.
#include "gateway/openapi.h"

#include "gateway/gateway.h"
#include "tensor/json.h"

namespace mayfly {
namespace {

constexpr std::string_view kRoomNames[] = {"Open Inference Protocol",
                                           "KServe V1 and TensorFlow Serving",
                                           "TorchServe",
                                           "SageMaker",
                                           "Administration",
                                           "Server"};

// Calls f(word) for each of "A, B".
template <typename F>
void each_word(std::string_view list, F&& f) {
  while (!list.empty()) {
    const auto comma = list.find(", ");
    f(list.substr(0, comma));
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 2);
  }
}

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

void append_parameters(std::string& out, std::string_view path) {
  out += "\"parameters\":[";
  bool first = true;
  for (auto at = path.find('{'); at != std::string_view::npos; at = path.find('{', at + 1)) {
    const std::string_view name = path.substr(at + 1, path.find('}', at) - at - 1);
    fmt::format_to(std::back_inserter(out),
                   R"({}{{"name":"{}","in":"path","required":true,"schema":{{"type":"string"{}}}}})", first ? "" : ",",
                   name, name == "version" ? R"(,"pattern":"^[0-9]{1,9}$")" : R"(,"minLength":1)");
    first = false;
  }
  out += "],";
}

std::string_view error_response(Dialect d) {
  switch (d) {
    case Dialect::kOip:
      return "Error";
    case Dialect::kTorchServe:
      return "TorchServeError";
    case Dialect::kSageMaker:
      return "SageMakerError";
  }
  return "Error";
}

void append_responses(std::string& out, const RouteSpec& r) {
  auto to = std::back_inserter(out);
  const std::string_view error = error_response(dialect_of(r.path));
  // A row without an answer says what is missing here.
  fmt::format_to(to, R"("responses":{{"{}":{{"$ref":"#/components/responses/{}"}})", r.response.empty() ? "501" : "200",
                 r.response.empty() ? error : r.response);
  auto add = [&](std::string_view status) {
    fmt::format_to(to, R"(,"{}":{{"$ref":"#/components/responses/{}"}})", status, error);
  };
  const bool names = r.path.find('{') != std::string_view::npos;
  if (!r.request.empty() || r.needs == Needs::kPrediction || r.path.find("shared") != std::string_view::npos)
    add("400");
  if (r.scope != kPublic) add("401");
  add("403");
  if (names || r.needs != Needs::kNothing) add("404");
  if (!r.request.empty()) {
    add("408");
    add("409");
    add("413");
    add("415");
  }
  if (r.needs == Needs::kPrediction) {
    for (std::string_view status : {"424", "429", "500", "501", "503", "504"}) add(status);
  }
  add("default");
  out += '}';
}

void append_operation(std::string& out, const RouteSpec& r, std::string_view method) {
  auto to = std::back_inserter(out);
  fmt::format_to(to, R"("{}":{{"tags":["{}"],"summary":)", lower(method), kRoomNames[static_cast<std::size_t>(r.room)]);
  append_json_string(out, r.summary);
  out += ',';
  append_parameters(out, r.path);
  if (r.scope != kPublic) {
    fmt::format_to(to, R"("security":[{{"key":[]}}],"x-scope":"{}",)", scope_name(static_cast<Scope>(r.scope)));
  }
  if (!r.request.empty()) fmt::format_to(to, R"("requestBody":{{"$ref":"#/components/requestBodies/{}"}},)", r.request);
  append_responses(out, r);
  out += '}';
}

}  // namespace

void Gateway::open_api(Response& rs) {
  std::string& out = rs.body;
  out = fmt::format(R"({{"openapi":"3.0.3","info":{{"title":"Mayfly","version":"{}"}},"paths":{{)", options_.version);
  std::string_view open;  // the path whose operations are being written
  bool first = true;
  for (const RouteSpec& r : routes()) {
    if (r.path != open) {
      fmt::format_to(std::back_inserter(out), "{}\"{}\":{{", open.empty() ? "" : "},", r.path);
      open = r.path;
      first = true;
    }
    each_word(r.methods, [&](std::string_view method) {
      if (method == "HEAD") return;  // goes with GET
      if (!std::exchange(first, false)) out += ',';
      append_operation(out, r, method);
    });
  }
  out += R"(}},"components":{"securitySchemes":{"key":{"type":"http","scheme":"bearer"}},)";
  out += openapi_components();
  out += "}}";
}

}  // namespace mayfly
