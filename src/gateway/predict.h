// The way of one prediction through the node, shared by the dialects. Included by the dialects' .cc files only.
#pragma once
#include <algorithm>

#include "gateway/gateway.h"

namespace mayfly {

inline Ask ask_of(const RequestContext& c) {
  Ask ask;
  ask.deadline_ns = c.deadline_ns;
  ask.cancel = c.cancel;
  ask.flow = c.principal.flow();
  ask.weight = c.principal.weight();
  ask.priority = c.priority;
  return ask;
}

// What a request took of the run that answered it, by its rows.
inline std::uint64_t share_of_run(const RequestContext& c, std::uint32_t rows_of_run) {
  const SlotRequest& rq = c.slot_request;
  const bool joins = c.served->version->batch && rq.input_count > 0 && rq.inputs[0].rank > 0;
  if (!joins || rows_of_run == 0) return c.slot_result.run_ns;
  const auto rows = std::min<std::uint64_t>(static_cast<std::uint64_t>(rq.inputs[0].dims[0]), rows_of_run);
  return c.slot_result.run_ns / rows_of_run * rows;
}

// The node was too busy: nothing was done, and so the request does not count against the rate of its key.
inline bool is_refusal(const Error& e) {
  return e.reason == "queue_full" || e.reason == "deadline_unreachable" || e.reason == "node_full" ||
         e.reason == "sandbox_unavailable" || e.reason == "package_unavailable";
}

template <typename Fill, typename Print>
Task<Status> Gateway::predict(RequestContext& c, Response& rs, Fill& fill, Print& print) {
  constexpr int kAttempts = 2;  // a request that kills its instance shall not kill many
  constexpr int kLosses = 16;   // instances that ended through no fault of the request
  int losses = 0;
  Error last;
  Ask ask = ask_of(c);
  const std::uint64_t asked = now_ns();
  for (int attempt = 0; attempt < kAttempts;) {
    auto lease = co_await node_.acquire(c.served->version, ask);
    if (!lease.ok()) {
      if (is_refusal(lease.error())) c.key_use.give_back();
      co_return lease.error();
    }
    const std::uint64_t granted = now_ns();
    c.phases.queue = granted - asked;
    Status filled = fill(*lease);
    // A batch has less room than a slot of its own, and takes only rows.
    if (lease->joins() && (filled.ok() ? !lease->fits(c.slot_request) : filled.error().reason == "payload_too_large")) {
      lease->go_alone();
      filled = fill(*lease);
    }
    if (!filled.ok()) {
      lease->discard_input();
      co_return filled;
    }
    const std::uint64_t parsed = now_ns();
    c.phases.parse = parsed - granted;
    if (parsed >= c.deadline_ns) {  // the body may have named a nearer one than was known before
      lease->discard_input();
      co_return make_error(Code::kDeadlineExceeded, "deadline_exceeded",
                           "the time of the request had passed when its tensors were read, before it could run");
    }
    CallOutcome outcome = co_await lease->run(c.slot_request, c.slot_result, c.deadline_ns, c.cancel);
    ask.may_join = false;         // whatever went wrong, alone it harms no neighbour and no neighbour harms it
    if (outcome.apart) continue;  // comes at most once
    const bool lost = outcome.instance_lost && !outcome.status.ok();
    const bool blameless = lost && outcome.status.error().reason == "instance_lost" && ++losses <= kLosses;
    if (!blameless) ++attempt;
    if (lost) {
      last = outcome.status.error();
      if (attempt < kAttempts) ++c.endpoint->metrics.retries;
      continue;
    }
    if (!outcome.status.ok()) co_return outcome.status.error();
    if (lease->charged_ns() != 0)
      node_.settle(*c.served->version, ask.flow, lease->charged_ns(), share_of_run(c, outcome.rows));
    const std::uint64_t answered = now_ns();
    if (outcome.first) c.endpoint->metrics.rows.add(outcome.rows);
    c.phases.queue += outcome.waited_ns;
    c.phases.infer = c.slot_result.run_ns;
    c.phases.start = lease->start();
    if (c.phases.start == StartKind::kCold) lease->instance().add_start_phases(c.phases);
    if (c.phases.start == StartKind::kParked)
      c.phases.resume = answered - parsed - std::min(answered - parsed, outcome.waited_ns + c.phases.infer);
    Status printed = print(*lease, c.slot_result, rs);
    c.phases.print = now_ns() - answered;
    co_return printed;
  }
  co_return last;
}

// What an instance says of a request that it could not answer.
inline Status result_status(const Version& v, const SlotResult& r) {
  switch (r.status) {
    case SlotStatus::kOk:
      return Ok{};
    case SlotStatus::kInvalidInput:
      return invalid("invalid_input", "{}", r.error_text);
    case SlotStatus::kModelError:
      return make_error(Code::kInternal, "model_error", "{} failed on this input: {}", v.display(), r.error_text);
    case SlotStatus::kCancelled:
      return make_error(Code::kCancelled, "cancelled", "the run was cancelled");
    case SlotStatus::kOutputTooLarge:
      return make_error(Code::kOutOfRange, "response_too_large",
                        "the outputs of {} are larger than max_response ({} bytes); raise it", v.display(),
                        v.settings.max_response_bytes);
  }
  return make_error(Code::kInternal, "instance_protocol_violation", "{} answered with an unknown status", v.display());
}

}  // namespace mayfly
