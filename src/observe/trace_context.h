// W3C Trace Context (https://www.w3.org/TR/trace-context-2/): the header traceparent. Values; no I/O.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace mayfly {

// The trace that a caller's request belongs to, and our own span in it.
struct TraceContext {
  char trace_id[33] = {};   // 32 hex digits, or empty: the caller traces nothing
  char parent_id[17] = {};  // the caller's span
  char span_id[17] = {};    // ours
  std::uint8_t flags = 0;   // as sent: bit 0 sampled, bit 1 random trace id
  explicit operator bool() const { return trace_id[0] != '\0'; }
};

// Reads a traceparent into `out`; false, and an empty context, where it is none: the specification has it ignored then.
// Versions after 00 are read by their first four fields. `span`: the number that becomes our span's id, not 0.
bool read_traceparent(std::string_view text, std::uint64_t span, TraceContext& out);
// "00-<trace>-<our span>-<flags>": what goes to those whom we ask, and back to the caller as traceresponse.
void append_traceparent(std::string& out, const TraceContext& t);

}  // namespace mayfly
