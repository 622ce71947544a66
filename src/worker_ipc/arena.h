// The contract between the server and an instance: one memfd, sealed against resizing, mapped by both.
//
//   ArenaHeader | ring of submitted slots | ring of completed slots | slot 0 | slot 1 | … | slot n-1
//   slot = SlotHeader (one page) | input region (input_capacity bytes) | output region (output_capacity bytes)
//
// The server writes a request into a slot it owns, pushes the slot's number to `submitted`, and wakes the instance; the
// instance answers in the same slot, pushes the number to `completed`, and wakes the server. A slot belongs to the
// server, except between its submission and its completion. Both rings are single-producer, single-consumer; head and
// tail run freely (mod 2^32); capacity kMaxSlots, so they never fill.
//
// Waking: a consumer stores 1 to its `*_sleeping` flag, looks at the ring once more, and blocks on its eventfd; a
// producer exchanges the flag with 0 after pushing and writes the eventfd only if it was 1.
//
// Cancelling: the server sets a slot's `cancel`, counts `cancels` up and wakes its futex. The instance answers a slot
// that was cancelled before it ran without running it, and may end a run under way; either way the slot is completed.
//
// Two forms: the server may set `tier.wanted` once; the instance then makes the packed form of its model beside its
// work and changes to it between two runs.
//
// Trust: everything the instance may write is hostile for the server. The server never reads geometry (offsets,
// capacities, slot count) back from the arena; it copies a slot's result header out before checking it (read_result),
// and treats a ring that moved further than its own submissions as a broken instance. Tensors lie at 64-byte-aligned
// offsets of their region. BYTES tensors use tensor/tensor.h's layout.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tensor/tensor.h"

namespace mayfly {

inline constexpr std::uint32_t kArenaMagic = 0x4D465931;  // "MFY1"
inline constexpr std::uint32_t kMaxSlots = 64;
inline constexpr std::size_t kTensorAlign = 64;
inline constexpr std::size_t kSlotHeaderBytes = 8192;
inline constexpr std::size_t kMaxErrorText = 512;
inline constexpr std::size_t kMaxTopClasses = 100;

// A tensor in a slot. index: position in the signature's inputs / outputs.
struct TensorRef {
  std::uint32_t index = 0;
  std::uint8_t dtype = 0;  // Dtype
  std::uint8_t rank = 0;
  std::uint16_t reserved = 0;
  std::int64_t dims[kMaxRank] = {};
  std::uint64_t offset = 0;  // from the start of the region
  std::uint64_t bytes = 0;
};

enum class RequestKind : std::uint32_t {
  kTensors = 1,  // inputs[] describe tensors in the input region
  kImage = 2,    // input region holds raw_bytes of an encoded picture (PNG, JPEG); the endpoint's input transform makes
                 // the tensor
  kProbe = 3,    // run once on zeros (free dimensions = 1); no outputs wanted
};

enum class SlotStatus : std::uint32_t {
  kOk = 0,
  kInvalidInput = 1,  // the caller's fault: 400 with error_text
  kModelError = 2,    // the runtime refused or failed: 500 with error_text
  kOutputTooLarge = 3,
  kCancelled = 4,  // the server asked for it
};

struct TopClass {
  std::uint32_t index;
  float score;
};

struct SlotRequest {
  RequestKind kind = RequestKind::kTensors;
  std::uint32_t input_count = 0;
  std::uint64_t raw_bytes = 0;
  std::uint64_t output_mask = ~0ULL;  // bit i: output i of the signature is wanted
  TensorRef inputs[kMaxTensors];
};

struct SlotResult {
  SlotStatus status = SlotStatus::kOk;
  std::uint32_t output_count = 0;
  std::uint64_t run_ns = 0;     // inside the runtime's Run
  std::uint32_t top_count = 0;  // > 0 where the endpoint has a `classes` output transform
  std::uint32_t reserved = 0;
  TopClass top[kMaxTopClasses];
  TensorRef outputs[kMaxTensors];
  char error_text[kMaxErrorText] = {};  // NUL-terminated by the writer, not trusted by the reader
};

struct SlotHeader {
  SlotRequest request;
  SlotResult result;
  std::atomic<std::uint32_t> cancel;  // the server: nobody waits for this slot's answer any more
};
static_assert(sizeof(SlotHeader) <= kSlotHeaderBytes);

struct Ring {
  alignas(64) std::atomic<std::uint32_t> tail;      // producer
  alignas(64) std::atomic<std::uint32_t> head;      // consumer
  alignas(64) std::atomic<std::uint32_t> sleeping;  // consumer blocks on its eventfd
  alignas(64) std::atomic<std::uint32_t> slots[kMaxSlots];
};

// The picture and class transforms of an endpoint, fixed for the instance's life.
struct TransformConfig {
  std::uint32_t image_input = 0;  // 1: kImage requests are taken, into input 0
  std::uint32_t width = 224, height = 224;
  std::uint32_t crop_permille = 1000;  // centred square before the resize, 1/1000 of the shorter side; 0: stretch
  std::uint32_t layout = 0;            // 0 NCHW, 1 NHWC
  float mean[3] = {0, 0, 0};
  float scale[3] = {1, 1, 1};             // value = (pixel - mean) * scale
  std::uint64_t max_pixels = 50'000'000;  // a larger picture is refused before it is decoded
  std::uint32_t classes_top = 0;          // > 0: result.top gets this many best entries of output `classes_output`
  std::uint32_t classes_output = 0;
};

struct ArenaGeometry {
  std::uint32_t slot_count = 1;
  std::uint64_t input_capacity = 0;  // bytes, multiple of 4096
  std::uint64_t output_capacity = 0;
  std::size_t slots_offset() const;
  std::size_t slot_bytes() const { return kSlotHeaderBytes + input_capacity + output_capacity; }
  std::size_t total_bytes() const { return slots_offset() + slot_bytes() * slot_count; }
};

enum class InstanceState : std::uint32_t { kStarting = 0, kReady = 1, kFailed = 2 };

// Which form of the model an instance runs. The server asks for the packed one by setting `wanted`; all else is the
// instance's, for people to see.
enum class Tier : std::uint32_t { kMapped = 0, kBuilding = 1, kPacked = 2, kFailed = 3 };  // kFailed: stays mapped
struct TierState {
  std::atomic<std::uint32_t> wanted;
  std::atomic<std::uint32_t> tier;
  std::atomic<std::uint64_t> build_ns;  // that making the packed form took
};

struct ArenaHeader {
  std::uint32_t magic = kArenaMagic;
  std::uint32_t threads = 1;  // intra-op threads
  ArenaGeometry geometry;     // written by the server, read by the instance only
  TransformConfig transform;
  std::uint64_t heap_bytes = 0;  // what session and runs took at deploy; the instance may prepare so much
  std::uint32_t on_disk = 0;     // the artefact was not in the page cache: its working set is being read
  // Written by the instance while it starts (monotonic nanoseconds, CLOCK_MONOTONIC), before its first completion:
  std::atomic<std::uint32_t> state;  // InstanceState
  std::uint32_t pad = 0;
  std::uint64_t started_ns = 0;         // first instruction after the fork
  std::uint64_t narrowed_ns = 0;        // sandbox complete
  std::uint64_t mapped_ns = 0;          // artefact mapped
  std::uint64_t session_ns = 0;         // session created
  char error_text[kMaxErrorText] = {};  // why state is kFailed
  TierState tier;
  std::atomic<std::uint32_t> cancels;  // futex: the server counts up after it has set a slot's `cancel`
  Ring submitted;                      // server → instance
  Ring completed;                      // instance → server
};

inline std::size_t ArenaGeometry::slots_offset() const { return (sizeof(ArenaHeader) + 4095) / 4096 * 4096; }

// Plain view of a mapped arena; used by both sides. `geometry` is the caller's own trusted copy.
class ArenaView {
 public:
  ArenaView() = default;
  ArenaView(void* base, ArenaGeometry g) : base_(static_cast<std::byte*>(base)), g_(g) {}
  ArenaHeader& header() const { return *reinterpret_cast<ArenaHeader*>(base_); }
  SlotHeader& slot(std::uint32_t i) const { return *reinterpret_cast<SlotHeader*>(slot_base(i)); }
  std::span<std::byte> input(std::uint32_t i) const { return {slot_base(i) + kSlotHeaderBytes, g_.input_capacity}; }
  std::span<std::byte> output(std::uint32_t i) const {
    return {slot_base(i) + kSlotHeaderBytes + g_.input_capacity, g_.output_capacity};
  }
  const ArenaGeometry& geometry() const { return g_; }

 private:
  std::byte* slot_base(std::uint32_t i) const { return base_ + g_.slots_offset() + g_.slot_bytes() * i; }
  std::byte* base_ = nullptr;
  ArenaGeometry g_;
};

// Producer side. True: the consumer was asleep, write its eventfd.
bool ring_push(Ring& r, std::uint32_t slot);
// Consumer side: nothing if the ring is empty; kBrokenRing (no valid slot number) if head and tail are further apart
// than kMaxSlots, which only a broken or hostile peer brings about.
inline constexpr std::uint32_t kBrokenRing = 0xFFFFFFFF;
std::optional<std::uint32_t> ring_pop(Ring& r);
// Consumer side, before blocking: true if it may block (flag set and still empty).
bool ring_prepare_sleep(Ring& r);
// Consumer side: waits awake until something is in the ring, for so long at most; false if nothing came.
bool ring_wait_awake(const Ring& r, std::uint64_t ns);

// What the instance's eventfd is written with: there is something in its ring, or there will be in a moment. Small, for
// a sum past 2^64 would block the server, and whether it is ever read is up to the instance.
inline constexpr std::uint64_t kWakeForWork = 1, kWakeForLater = 1 << 20;

// Server side: copies the result of `slot` out of shared memory and checks it against the signature: known
// status, output indices in range and unique, dtype as in the signature, rank and element count consistent with bytes,
// offsets aligned and inside the output region, BYTES elements well-formed. kInternal "instance_protocol_violation"
// otherwise.
// Fills only what the counts in it say; `out` is the caller's own memory and is reused (it is 4 KB).
Status read_result(const ArenaView& a, std::uint32_t slot, const Signature& sig, SlotResult& out);

// Instance side, symmetric: checks the server's request before use (defence in depth; used by the fuzz target too).
Status check_request(const SlotRequest& rq, std::span<const std::byte> input, const Signature& sig);

// Server side: nobody waits for `slot`, which is submitted.
void cancel_slot(const ArenaView& a, std::uint32_t slot);

// Rounds up to kTensorAlign.
inline constexpr std::uint64_t align_tensor(std::uint64_t n) {
  return (n + kTensorAlign - 1) / kTensorAlign * kTensorAlign;
}

}  // namespace mayfly
