// What is written down of a prediction: metrics, one log line, and the headers Server-Timing and traceresponse. The
// same numbers in all of them. On the path of every request: nothing here allocates at steady state.
#include <array>
#include <charconv>

#include "base/text.h"
#include "gateway/gateway.h"

namespace mayfly {
namespace {

// Milliseconds with three digits, as {:.3f} prints them.
void append_ms(std::string& out, std::uint64_t ns) {
  const std::uint64_t us = (ns + 500) / 1000;
  std::array<char, 32> text;
  char* at = std::to_chars(text.data(), text.data() + text.size(), us / 1000).ptr;
  const auto rest = static_cast<unsigned>(us % 1000);
  *at++ = '.';
  *at++ = static_cast<char>('0' + rest / 100);
  *at++ = static_cast<char>('0' + rest / 10 % 10);
  *at++ = static_cast<char>('0' + rest % 10);
  out.append(text.data(), at);
}

// Calls f(name, nanoseconds) for each phase that the request went through.
template <typename F>
void each_phase(const Phases& p, F&& f) {
  f("receive", p.receive);
  f("parse", p.parse);
  f("queue", p.queue);
  if (p.start == StartKind::kCold) {
    if (p.fetch > 0) f("fetch", p.fetch);
    f("fork", p.fork);
    f("isolate", p.isolate);
    f("map", p.map);
    f("init", p.init);
  }
  if (p.start == StartKind::kParked) f("resume", p.resume);
  f("infer", p.infer);
  f("print", p.print);
  f("total", p.total);
}

void append_server_timing(std::string& out, const Phases& p) {
  out.append("Server-Timing: start;desc=").append(start_name(p.start));
  each_phase(p, [&](std::string_view name, std::uint64_t ns) {
    out.append(", ").append(name).append(";dur=");
    append_ms(out, ns);
  });
  out.append("\r\n");
}

// Keys and ids hold no character that JSON escapes: names are checked at deploy, request ids in on_head.
void append_line(std::string& out, const RequestContext& c, int status, std::string_view reason) {
  out.append("{\"time\":\"");
  Log::append_timestamp(out);
  out.append(R"(","event":"request","id":")").append(c.request_id);
  out.append(R"(","tenant":")").append(c.principal.tenant);
  out.append(R"(","key":")").append(c.principal.key_id);
  if (c.trace) {
    out.append(R"(","trace":")").append(c.trace.trace_id);
    out.append(R"(","span":")").append(c.trace.span_id);
  }
  out.append(R"(","endpoint":")").append(c.endpoint->name);
  out.append(R"(","version":)").append(c.served->version->number_text);
  out.append(",\"status\":");
  append_number(out, static_cast<std::uint64_t>(status));
  if (!reason.empty()) out.append(R"(,"reason":")").append(reason).append("\"");
  const Phases& p = c.phases;
  out.append(R"(,"start":")").append(start_name(p.start)).append("\"");
  each_phase(p, [&](std::string_view name, std::uint64_t ns) {
    out.append(",\"").append(name).append("_ms\":");
    append_ms(out, ns);
  });
}

}  // namespace

void Gateway::finish_predict(const Request& rq, RequestContext& c, Response& rs, const Status& status) {
  Phases& p = c.phases;
  p.total = now_ns() - rq.received_ns;
  if (!status.ok()) render_error(status.error(), rq.head, rs);
  const int http = status.ok() ? rs.status : http_status(status.error());  // what the answer's own form may not tell
  EndpointMetrics& m = c.endpoint->metrics;
  ++m.requests;
  const bool cancelled = !status.ok() && status.error().code == Code::kCancelled;
  m.cancelled += cancelled ? 1 : 0;
  m.errors += status.ok() || cancelled ? 0 : 1;
  m.rejected += http == 429 ? 1 : 0;
  m.error_ns += status.ok() ? 0 : p.total;
  m.last_ns = rq.received_ns + p.total;
  m.total.add_ns(p.total);
  m.queue.add_ns(p.queue);
  if (status.ok()) {
    m.receive.add_ns(p.receive);
    m.parse.add_ns(p.parse);
    m.infer.add_ns(p.infer);
    m.print.add_ns(p.print);
  }
  if (p.start == StartKind::kCold) {
    ++m.cold;
    m.start.add_ns(p.fork + p.isolate + p.map + p.init);
    if (p.fetch > 0) m.fetch.add_ns(p.fetch);
  }
  m.resumed += p.start == StartKind::kParked ? 1 : 0;
  append_server_timing(rs.headers, p);
  if (c.trace) {
    rs.headers += "traceresponse: ";
    append_traceparent(rs.headers, c.trace);
    rs.headers += "\r\n";
  }
  log_line_.clear();
  append_line(log_line_, c, http, status.ok() ? std::string_view() : status.error().reason);
  log_line_ += ",\"in_bytes\":";
  append_number(log_line_, rq.body.size());
  log_line_ += ",\"out_bytes\":";
  append_number(log_line_, rs.body.size());
  log_line_ += '}';
  log_.request(c.endpoint->name, log_line_);
}

// A prediction that was refused at its head, before its body was read.
void Gateway::note_refusal(RequestContext& c, const Error& error, std::uint64_t received_ns) {
  EndpointMetrics& m = c.endpoint->metrics;
  const int status = http_status(error);
  ++m.requests;
  ++m.errors;
  m.rejected += status == 429 ? 1 : 0;
  c.phases.total = now_ns() - received_ns;
  m.total.add_ns(c.phases.total);
  log_line_.clear();
  append_line(log_line_, c, status, error.reason);
  log_line_ += '}';
  log_.request(c.endpoint->name, log_line_);
}

}  // namespace mayfly
