#include "worker_ipc/arena.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstring>

#include "tensor/bytes.h"

namespace mayfly {
namespace {

Shape shape_of(const TensorRef& t) {
  Shape s;
  s.rank = t.rank;
  std::memcpy(s.dims.data(), t.dims, sizeof(t.dims));
  return s;
}

// What is wrong with a tensor's header, or nothing.
std::optional<std::string> tensor_fault(const TensorRef& t, const TensorSpec& spec, std::span<const std::byte> region) {
  if (t.dtype != static_cast<std::uint8_t>(spec.dtype)) return fmt::format("datatype {}", t.dtype);
  if (t.rank > kMaxRank) return fmt::format("rank {}, the limit is {}", t.rank, kMaxRank);
  const Shape shape = shape_of(t);
  const auto count = element_count(shape);
  if (!count) return fmt::format("shape {}", to_string(shape));
  if (t.offset % kTensorAlign != 0 || t.offset > region.size() || t.bytes > region.size() - t.offset) {
    return fmt::format("{} bytes at offset {} of a region of {}", t.bytes, t.offset, region.size());
  }
  if (spec.dtype == Dtype::kBytes) {
    if (bytes_well_formed(region.subspan(t.offset, t.bytes), *count)) return std::nullopt;
    return fmt::format("its {} bytes do not hold {} elements", t.bytes, *count);
  }
  const std::size_t size = dtype_size(spec.dtype);
  if (size == 0 || t.bytes % size != 0 || t.bytes / size != *count) {
    return fmt::format("{} bytes for {} elements of {}", t.bytes, *count, dtype_name(spec.dtype));
  }
  return std::nullopt;
}

Error violation(std::uint32_t slot, std::string_view what) {
  return make_error(Code::kInternal, "instance_protocol_violation",
                    "the instance wrote an invalid result into slot {}: {}; the instance must be ended", slot, what);
}

Error bad_request(std::string_view what) {
  return invalid("invalid_slot_request", "the server wrote an invalid request: {}", what);
}

bool shape_fits(const Shape& s, const Shape& spec) {
  if (s.rank != spec.rank) return false;
  for (std::size_t i = 0; i < s.rank; ++i) {
    if (spec.dims[i] != -1 && spec.dims[i] != s.dims[i]) return false;
  }
  return true;
}

Status check_request_tensors(const SlotRequest& rq, std::span<const std::byte> input, const Signature& sig) {
  if (rq.input_count != sig.inputs.size() || rq.input_count > kMaxTensors) {
    return bad_request(fmt::format("{} inputs, the model takes {}", rq.input_count, sig.inputs.size()));
  }
  std::uint64_t seen = 0;
  for (std::uint32_t i = 0; i < rq.input_count; ++i) {
    const TensorRef& t = rq.inputs[i];
    if (t.index >= sig.inputs.size()) return bad_request(fmt::format("input index {}", t.index));
    if ((seen >> t.index & 1) != 0) return bad_request(fmt::format("input index {} twice", t.index));
    seen |= std::uint64_t{1} << t.index;
    const TensorSpec& spec = sig.inputs[t.index];
    if (auto fault = tensor_fault(t, spec, input)) return bad_request("input \"" + spec.name + "\": " + *fault);
    if (!shape_fits(shape_of(t), spec.shape)) {
      return bad_request(fmt::format("input \"{}\": shape {}, the model takes {}", spec.name, to_string(shape_of(t)),
                                     to_string(spec.shape)));
    }
  }
  return Ok{};
}

}  // namespace

// Dekker's pattern: the producer stores `tail` then loads `sleeping`, the consumer stores `sleeping` then loads `tail`.
// All four are seq_cst, so that at least one of the two sees the other's store and no wake-up is lost.
bool ring_push(Ring& r, std::uint32_t slot) {
  const std::uint32_t tail = r.tail.load(std::memory_order_relaxed);
  r.slots[tail % kMaxSlots].store(slot, std::memory_order_relaxed);
  r.tail.store(tail + 1, std::memory_order_seq_cst);
  if (r.sleeping.load(std::memory_order_seq_cst) == 0) return false;  // usual under load: one locked store
  return r.sleeping.exchange(0, std::memory_order_seq_cst) != 0;
}

std::optional<std::uint32_t> ring_pop(Ring& r) {
  const std::uint32_t head = r.head.load(std::memory_order_relaxed);
  const std::uint32_t filled = r.tail.load(std::memory_order_acquire) - head;
  if (filled == 0) return std::nullopt;
  if (filled > kMaxSlots) return kBrokenRing;
  const std::uint32_t slot = r.slots[head % kMaxSlots].load(std::memory_order_relaxed);
  r.head.store(head + 1, std::memory_order_release);
  return slot;
}

bool ring_prepare_sleep(Ring& r) {
  r.sleeping.store(1, std::memory_order_seq_cst);
  if (r.tail.load(std::memory_order_seq_cst) == r.head.load(std::memory_order_relaxed)) return true;
  r.sleeping.store(0, std::memory_order_relaxed);
  return false;
}

bool ring_wait_awake(const Ring& r, std::uint64_t ns) {
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + std::chrono::nanoseconds(ns);
  do {
    for (int i = 0; i < 16; ++i) __builtin_ia32_pause();
    if (r.tail.load(std::memory_order_acquire) != r.head.load(std::memory_order_relaxed)) return true;
  } while (Clock::now() < until);
  return false;
}

void cancel_slot(const ArenaView& a, std::uint32_t slot) {
  a.slot(slot).cancel.store(1, std::memory_order_release);
  auto& cancels = a.header().cancels;
  cancels.fetch_add(1, std::memory_order_release);
  syscall(SYS_futex, &cancels, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

Status read_result(const ArenaView& a, std::uint32_t slot, const Signature& sig, SlotResult& r) {
  if (slot >= a.geometry().slot_count) return violation(slot, "there is no such slot");
  const SlotResult& shared = a.slot(slot).result;  // may change at any time: each part is copied once, then checked
  std::memcpy(static_cast<void*>(&r), &shared, offsetof(SlotResult, top));
  if (static_cast<std::uint32_t>(r.status) > static_cast<std::uint32_t>(SlotStatus::kCancelled)) {
    return violation(slot, fmt::format("status {}", static_cast<std::uint32_t>(r.status)));
  }
  if (r.status != SlotStatus::kOk) {
    r.output_count = 0;
    r.top_count = 0;
    std::memcpy(r.error_text, shared.error_text, kMaxErrorText);
    r.error_text[kMaxErrorText - 1] = '\0';
    return Ok{};
  }
  if (r.top_count > kMaxTopClasses) return violation(slot, fmt::format("{} top classes", r.top_count));
  if (r.output_count > kMaxTensors || r.output_count > sig.outputs.size()) {
    return violation(slot, fmt::format("{} outputs, the model has {}", r.output_count, sig.outputs.size()));
  }
  std::memcpy(r.top, shared.top, sizeof(TopClass) * r.top_count);
  std::memcpy(r.outputs, shared.outputs, sizeof(TensorRef) * r.output_count);
  std::uint64_t seen = 0;
  for (std::uint32_t i = 0; i < r.output_count; ++i) {
    const TensorRef& t = r.outputs[i];
    if (t.index >= sig.outputs.size()) return violation(slot, fmt::format("output index {}", t.index));
    if ((seen >> t.index & 1) != 0) return violation(slot, fmt::format("output index {} twice", t.index));
    seen |= std::uint64_t{1} << t.index;
    const TensorSpec& spec = sig.outputs[t.index];
    if (auto fault = tensor_fault(t, spec, a.output(slot))) {
      return violation(slot, "output \"" + spec.name + "\": " + *fault);
    }
  }
  return Ok{};
}

Status check_request(const SlotRequest& rq, std::span<const std::byte> input, const Signature& sig) {
  switch (rq.kind) {
    case RequestKind::kProbe:
      return Ok{};
    case RequestKind::kImage:
      if (rq.raw_bytes > 0 && rq.raw_bytes <= input.size()) return Ok{};
      return bad_request(fmt::format("a picture of {} bytes in a region of {}", rq.raw_bytes, input.size()));
    case RequestKind::kTensors:
      return check_request_tensors(rq, input, sig);
  }
  return bad_request(fmt::format("kind {}", static_cast<std::uint32_t>(rq.kind)));
}

}  // namespace mayfly
