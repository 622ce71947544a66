#include "node/batch.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "node/instance.h"

namespace mayfly {

Batch::Batch(std::shared_ptr<Instance> instance, std::uint32_t slot) : instance_(std::move(instance)), slot_(slot) {
  members_.reserve(16);
}

Batch::~Batch() {
  if (phase_ == Phase::kOpen || phase_ == Phase::kDone) instance_->return_slot(slot_, used_bytes(request_));
}

InputArea Batch::area() const { return {instance_->arena().input(slot_), instance_->version().batch, rows_}; }

bool Batch::fits(const SlotRequest& request) const {
  const std::int64_t rows = request.inputs[0].dims[0];
  if (request.kind != RequestKind::kTensors || rows < 1) return false;
  if (rows > static_cast<std::int64_t>(instance_->version().batch.max_rows - rows_)) return false;
  for (std::uint32_t i = 1; i < request.input_count; ++i) {
    if (request.inputs[i].dims[0] != rows) return false;
  }
  return true;
}

void Batch::add(Member& member, const SlotRequest& request) {
  const BatchPlan& plan = instance_->version().batch;
  if (members_.empty()) {
    opened_ns_ = member.joined_ns;
    std::memcpy(&request_, &request, offsetof(SlotRequest, inputs) + sizeof(TensorRef) * request.input_count);
  }
  member.first = rows_;
  member.rows = static_cast<std::uint32_t>(request.inputs[0].dims[0]);
  rows_ += member.rows;
  mask_ |= request.output_mask;
  for (std::uint32_t i = 0; i < request_.input_count; ++i) {
    TensorRef& t = request_.inputs[i];
    t.dims[0] = rows_;
    t.offset = plan.offset[t.index];
    t.bytes = rows_ * plan.row_bytes[t.index];
  }
  earliest_deadline_ns_ = std::min(earliest_deadline_ns_, member.deadline_ns);
  members_.push_back(&member);
}

void Batch::leave(Member& member) {
  std::erase(members_, &member);
  if (!members_.empty() || phase_ != Phase::kRunning) return;
  phase_ = Phase::kAbandoned;
  instance_->abandon(slot_);
  self_.reset();
}

void Batch::submit() {
  request_.output_mask = mask_;
  phase_ = Phase::kRunning;
  self_ = shared_from_this();
  submitted_ns_ = now_ns();
  instance_->submit(slot_, request_, this);
}

// Every output has a row for each input row, and rows of one size.
bool Batch::splits() const {
  for (std::uint32_t i = 0; i < result_.output_count; ++i) {
    const TensorRef& t = result_.outputs[i];
    if (t.rank == 0 || t.dims[0] != static_cast<std::int64_t>(rows_) || t.bytes % rows_ != 0) return false;
  }
  return true;
}

void Batch::narrow(const Member& member) const {
  SlotResult& r = *member.result;
  r.status = SlotStatus::kOk;
  r.run_ns = result_.run_ns;
  r.top_count = 0;
  r.output_count = result_.output_count;
  for (std::uint32_t i = 0; i < result_.output_count; ++i) {
    TensorRef& t = r.outputs[i] = result_.outputs[i];
    const std::uint64_t row_bytes = t.bytes / rows_;
    t.dims[0] = member.rows;
    t.offset += member.first * row_bytes;
    t.bytes = member.rows * row_bytes;
  }
}

void Batch::finish(CallOutcome outcome) {
  phase_ = Phase::kDone;
  const auto self = std::exchange(self_, nullptr);
  const bool lone = members_.size() == 1 && members_.front()->rows == rows_;
  const bool ok = outcome.status.ok() && result_.status == SlotStatus::kOk && splits();
  if (outcome.status.ok() && result_.status == SlotStatus::kOk && !ok) instance_->batching_failed();
  outcome.apart = outcome.status.ok() && !ok && !lone;
  outcome.rows = rows_;
  for (Member* m : std::exchange(members_, {})) {
    if (ok)
      narrow(*m);
    else if (outcome.status.ok() && lone)
      *m->result = result_;
    outcome.waited_ns = submitted_ns_ - std::min(submitted_ns_, m->joined_ns);
    m->done.set(outcome);
    outcome.first = false;
  }
}

bool Batch::expire(std::uint64_t now) {
  if (now < earliest_deadline_ns_) return false;
  earliest_deadline_ns_ = UINT64_MAX;
  std::erase_if(members_, [&](Member* m) {
    if (now < m->deadline_ns) {
      earliest_deadline_ns_ = std::min(earliest_deadline_ns_, m->deadline_ns);
      return false;
    }
    m->done.set(CallOutcome{late(instance_->version())});
    return true;
  });
  if (!members_.empty() || phase_ != Phase::kRunning) return false;
  phase_ = Phase::kAbandoned;
  self_.reset();
  return true;
}

}  // namespace mayfly
