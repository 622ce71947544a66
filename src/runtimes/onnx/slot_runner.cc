#include "runtimes/onnx/slot_runner.h"

#include <time.h>

#include <array>
#include <cstring>
#include <new>

#include "runtimes/onnx/image.h"
#include "runtimes/onnx/top_classes.h"
#include "tensor/bytes.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMaxProbeBytes = std::uint64_t{1} << 30;

std::uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

Shape shape_of(const TensorRef& t) {
  Shape s;
  s.rank = t.rank;
  std::memcpy(s.dims.data(), t.dims, sizeof t.dims);
  return s;
}

Error cancelled() { return Error{Code::kCancelled, "cancelled", "the server cancelled the request"}; }

SlotStatus slot_status(Code code) {
  if (code == Code::kCancelled) return SlotStatus::kCancelled;
  if (code == Code::kInvalidArgument) return SlotStatus::kInvalidInput;
  return code == Code::kOutOfRange ? SlotStatus::kOutputTooLarge : SlotStatus::kModelError;
}

Error too_large(const std::string& name, std::uint64_t need, std::uint64_t have) {
  return make_error(Code::kOutOfRange, "output_too_large",
                    "output \"{}\" needs {} bytes, {} are left for outputs; ask for "
                    "fewer rows or outputs, or raise the endpoint's output limit",
                    name, need, have);
}

}  // namespace

SlotRunner::SlotRunner(const Ort& ort, const Session& session, const ArenaView& arena)
    : ort_(ort), session_(session), arena_(arena) {
  inputs_.resize(session.signature.inputs.size());
  outputs_.reserve(kMaxTensors);
}

Result<std::unique_ptr<SlotRunner>> SlotRunner::create(const Ort& ort, const Session& session, const ArenaView& arena) {
  std::unique_ptr<SlotRunner> r(new SlotRunner(ort, session, arena));
  if (arena.geometry().output_capacity > 0) r->transform_ = arena.header().transform;
  auto memory = ort.cpu_memory();
  if (!memory.ok()) return std::move(memory.error());
  r->memory_ = std::move(*memory);
  OrtRunOptions* options = nullptr;
  MAYFLY_TRY(ort.check(ort.api->CreateRunOptions(&options), "run_options_failed", "create run options"));
  r->run_options_ = OrtOwned<OrtRunOptions>(options, {ort.api->ReleaseRunOptions});
  r->canceller_ = std::make_unique<Canceller>(ort, options, arena);
  return r;
}

void SlotRunner::serve(std::uint32_t slot) {
  SlotHeader& header = arena_.slot(slot);
  SlotRequest rq;
  std::memcpy(&rq, &header.request, sizeof rq);
  SlotResult& result = header.result;
  result.output_count = 0;
  result.top_count = 0;
  result.run_ns = 0;
  result.error_text[0] = '\0';
  Status status = Ok{};
  try {
    status = canceller_->begin(slot) ? run_request(rq, slot, result) : cancelled();
  } catch (const std::bad_alloc&) {
    status = make_error(Code::kResourceExhausted, "out_of_memory", "the instance ran out of memory in this request");
  }
  if (canceller_->end() && !status.ok()) status = cancelled();
  if (result.run_ns > Canceller::kWorthNs) canceller_->watch();
  result.status = SlotStatus::kOk;
  if (!status.ok()) {
    result.status = slot_status(status.error().code);
    result.output_count = 0;
    result.top_count = 0;
    std::snprintf(result.error_text, kMaxErrorText, "%s", status.error().message.c_str());
  }
  for (auto& v : inputs_) v.reset();
  outputs_.clear();
}

Status SlotRunner::run_request(const SlotRequest& rq, std::uint32_t slot, SlotResult& result) {
  MAYFLY_TRY(check_request(rq, arena_.input(slot), session_.signature));
  batch_ = -1;
  used_ = 0;
  if (rq.kind == RequestKind::kProbe) {
    auto ns = probe(1);
    if (!ns.ok()) ns = probe(8);
    if (!ns.ok()) return std::move(ns.error());
    result.run_ns = *ns;
    return Ok{};
  }
  MAYFLY_TRY(rq.kind == RequestKind::kImage ? bind_image(rq, arena_.input(slot))
                                            : bind_tensors(rq, arena_.input(slot)));
  choose_outputs(rq.output_mask, transform_.classes_top > 0);
  if (place_) place_outputs(arena_.output(slot));
  auto ns = run_placed();
  if (!ns.ok()) return std::move(ns.error());
  result.run_ns = *ns;
  MAYFLY_TRY(report_outputs(arena_.output(slot), result));
  if (transform_.classes_top > 0) MAYFLY_TRY(find_top(arena_.output(slot), result));
  return Ok{};
}

Status SlotRunner::bind_tensors(const SlotRequest& rq, std::span<std::byte> region) {
  for (std::uint32_t i = 0; i < rq.input_count; ++i) {
    const TensorRef& t = rq.inputs[i];
    const TensorSpec& spec = session_.signature.inputs[t.index];
    const Shape shape = shape_of(t);
    const auto data = region.subspan(t.offset, t.bytes);
    if (t.index == 0 && shape.rank > 0 && spec.shape.dims[0] == -1) batch_ = shape.dims[0];
    if (spec.dtype == Dtype::kBytes) {
      MAYFLY_TRY(bind_strings(t.index, shape, data));
      continue;
    }
    // A binary tensor may hold any byte where the runtime reads a C++ bool.
    if (spec.dtype == Dtype::kBool)
      for (std::byte& b : data) b = std::byte{b != std::byte{0}};
    auto value = ort_.tensor_over(memory_.get(), spec.dtype, shape, data);
    if (!value.ok()) return std::move(value.error());
    inputs_[t.index] = std::move(*value);
  }
  return Ok{};
}

Status SlotRunner::bind_strings(std::size_t index, const Shape& shape, std::span<const std::byte> data) {
  OrtValue* raw = nullptr;
  MAYFLY_TRY(ort_.check(ort_.api->CreateTensorAsOrtValue(ort_.allocator, shape.dims.data(), shape.rank,
                                                         ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, &raw),
                        "tensor_failed", "make a string tensor"));
  inputs_[index] = ort_.own(raw);
  std::size_t i = 0;
  while (auto element = next_bytes_element(data)) {
    char* to = nullptr;
    MAYFLY_TRY(ort_.check(ort_.api->GetResizedStringTensorElementBuffer(raw, i++, element->size(), &to),
                          "tensor_failed", "fill a string tensor"));
    if (!element->empty()) std::memcpy(to, element->data(), element->size());
  }
  return Ok{};
}

Status SlotRunner::bind_image(const SlotRequest& rq, std::span<std::byte> region) {
  const auto& specs = session_.signature.inputs;
  if (transform_.image_input == 0) {
    return invalid("image_not_accepted",
                   "this endpoint takes tensors, not pictures; set an image input transform on it");
  }
  const bool fits =
      specs.size() == 1 && specs[0].dtype == Dtype::kFp32 && (specs[0].shape.rank == 3 || specs[0].shape.rank == 4);
  if (!fits) {
    return make_error(
        Code::kFailedPrecondition, "image_transform_mismatch",
        "the image transform needs a model with one FP32 "
        "input of rank 3 or 4; this one has {} inputs{}",
        specs.size(),
        specs.empty() ? "" : fmt::format(", the first {} {}", dtype_name(specs[0].dtype), to_string(specs[0].shape)));
  }
  MAYFLY_TRY(image_to_tensor(region.first(rq.raw_bytes), transform_, pixels_));
  const std::int64_t h = transform_.height, w = transform_.width;
  Shape shape;
  if (specs[0].shape.rank == 4) {
    shape.dims[shape.rank++] = 1;
    if (specs[0].shape.dims[0] == -1) batch_ = 1;
  }
  for (const std::int64_t d :
       transform_.layout == 1 ? std::array{h, w, std::int64_t{3}} : std::array{std::int64_t{3}, h, w}) {
    shape.dims[shape.rank++] = d;
  }
  auto value = ort_.tensor_over(memory_.get(), Dtype::kFp32, shape, std::as_writable_bytes(std::span(pixels_)));
  if (!value.ok()) return std::move(value.error());
  inputs_[0] = std::move(*value);
  return Ok{};
}

Status SlotRunner::bind_zeros(std::int64_t free_dim, std::vector<std::vector<std::byte>>& memory) {
  const auto& specs = session_.signature.inputs;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    Shape shape = specs[i].shape;
    for (std::size_t d = 0; d < shape.rank; ++d)
      if (shape.dims[d] == -1) shape.dims[d] = free_dim;
    if (specs[i].dtype == Dtype::kBytes) {
      MAYFLY_TRY(bind_strings(i, shape, {}));
      continue;
    }
    const auto count = element_count(shape);
    if (!count || *count > kMaxProbeBytes / dtype_size(specs[i].dtype)) {
      return invalid("model_too_complex", "input \"{}\" of shape {} is over the probe's limit of {} bytes",
                     specs[i].name, to_string(shape), kMaxProbeBytes);
    }
    memory.emplace_back(*count * dtype_size(specs[i].dtype));
    auto value = ort_.tensor_over(memory_.get(), specs[i].dtype, shape, memory.back());
    if (!value.ok()) return std::move(value.error());
    inputs_[i] = std::move(*value);
  }
  return Ok{};
}

Result<std::uint64_t> SlotRunner::probe(std::int64_t free_dim) {
  std::vector<std::vector<std::byte>> memory;
  MAYFLY_TRY(bind_zeros(free_dim, memory));
  choose_outputs(~std::uint64_t{0}, false);
  auto ns = run();
  for (auto& v : inputs_) v.reset();
  outputs_.clear();
  return ns;
}

// At least one output is computed, as the runtime refuses to run for none.
void SlotRunner::choose_outputs(std::uint64_t mask, bool classes) {
  outputs_.clear();
  const std::size_t n = session_.output_names.size();
  for (std::uint32_t i = 0; i < n; ++i) {
    const bool wanted = (mask >> i & 1) != 0;
    const bool scored = classes && i == transform_.classes_output;
    if (!wanted && !scored) continue;
    Output& o = outputs_.emplace_back();
    o.index = i;
    o.reported = wanted;
  }
  if (outputs_.empty()) outputs_.emplace_back().reported = false;
}

// True if the output's shape is fixed, or free only in a first dimension that must be the batch.
bool SlotRunner::guess_shape(const TensorSpec& spec, Shape& shape) const {
  shape = spec.shape;
  if (shape.rank == 0 || spec.dtype == Dtype::kBytes) return false;  // rank 0 also stands for "unknown"
  if (shape.dims[0] == -1) shape.dims[0] = batch_;
  for (const std::int64_t d : shape.view())
    if (d <= 0) return false;
  return true;
}

void SlotRunner::place_outputs(std::span<std::byte> region) {
  for (Output& o : outputs_) {
    const TensorSpec& spec = session_.signature.outputs[o.index];
    Shape shape;
    if (!guess_shape(spec, shape)) continue;
    const auto count = element_count(shape);
    const std::size_t size = dtype_size(spec.dtype);
    const std::uint64_t room = region.size() - used_;
    if (!count || *count > room / size) continue;  // if the guess holds, copying reports it as too large
    const std::uint64_t bytes = *count * size;
    auto value = ort_.tensor_over(memory_.get(), spec.dtype, shape, region.subspan(used_, bytes));
    if (!value.ok()) continue;
    o.value = std::move(*value);
    o.in_place = true;
    o.ref.offset = used_;
    used_ = std::min<std::uint64_t>(align_tensor(used_ + bytes), region.size());
  }
}

Result<std::uint64_t> SlotRunner::run_placed() {
  auto ns = run();
  if (ns.ok()) return ns;
  bool placed = false;
  for (Output& o : outputs_) {
    placed |= o.in_place;
    o.in_place = false;
    o.value.reset();
  }
  if (!placed) return ns;
  // The declared output shape may have been wrong: the second run lets the runtime allocate, and says which it was.
  used_ = 0;
  ns = run();
  if (ns.ok()) place_ = false;
  return ns;
}

Result<std::uint64_t> SlotRunner::run() {
  in_.clear();
  out_.clear();
  out_names_.clear();
  for (const auto& v : inputs_) in_.push_back(v.get());
  for (const Output& o : outputs_) {
    out_.push_back(o.value.get());
    out_names_.push_back(session_.output_names[o.index]);
  }
  const std::uint64_t start = now_ns();
  OrtStatus* status = ort_.api->Run(session_.session.get(), run_options_.get(), session_.input_names.data(), in_.data(),
                                    in_.size(), out_names_.data(), out_names_.size(), out_.data());
  const std::uint64_t ns = now_ns() - start;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    if (out_[i] != nullptr && outputs_[i].value.get() != out_[i]) outputs_[i].value = ort_.own(out_[i]);
  }
  MAYFLY_TRY(ort_.check(status, "model_run_failed", "run the model"));
  return ns;
}

// Fills ref's dtype and shape from what the runtime returned.
Status SlotRunner::describe(Output& o) {
  const TensorSpec& spec = session_.signature.outputs[o.index];
  if (!o.value) return make_error(Code::kInternal, "output_mismatch", "the model returned no output \"{}\"", spec.name);
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  MAYFLY_TRY(ort_.check(ort_.api->GetTensorTypeAndShape(o.value.get(), &raw), "model_run_failed", "read an output"));
  OrtOwned<OrtTensorTypeAndShapeInfo> info(raw, {ort_.api->ReleaseTensorTypeAndShapeInfo});
  std::size_t rank = 0;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  MAYFLY_TRY(ort_.check(ort_.api->GetDimensionsCount(raw, &rank), "model_run_failed", "read an output's rank"));
  MAYFLY_TRY(ort_.check(ort_.api->GetTensorElementType(raw, &type), "model_run_failed", "read an output's type"));
  if (rank > kMaxRank || from_ort(type) != spec.dtype) {
    return make_error(Code::kInternal, "output_mismatch",
                      "the model returned output \"{}\" with rank {} and ONNX type {}; it "
                      "declares {}",
                      spec.name, rank, static_cast<int>(type), dtype_name(spec.dtype));
  }
  o.ref.index = o.index;
  o.ref.dtype = static_cast<std::uint8_t>(spec.dtype);
  o.ref.rank = static_cast<std::uint8_t>(rank);
  return ort_.check(ort_.api->GetDimensions(raw, o.ref.dims, rank), "model_run_failed", "read an output's shape");
}

Status SlotRunner::report_outputs(std::span<std::byte> region, SlotResult& result) {
  for (Output& o : outputs_) {
    MAYFLY_TRY(describe(o));
    if (o.in_place) {
      const auto count = element_count(shape_of(o.ref));
      o.ref.bytes = count.value_or(0) * dtype_size(static_cast<Dtype>(o.ref.dtype));
    } else if (o.reported || (transform_.classes_top > 0 && o.index == transform_.classes_output)) {
      MAYFLY_TRY(copy_out(o, region));
    }
    if (o.reported) result.outputs[result.output_count++] = o.ref;
  }
  return Ok{};
}

Status SlotRunner::copy_out(Output& o, std::span<std::byte> region) {
  const TensorSpec& spec = session_.signature.outputs[o.index];
  const auto count = element_count(shape_of(o.ref));
  if (!count) return make_error(Code::kInternal, "output_mismatch", "output \"{}\" has an impossible shape", spec.name);
  const auto room = region.subspan(used_);
  o.ref.offset = used_;
  if (spec.dtype == Dtype::kBytes) {
    MAYFLY_TRY(copy_strings(o, *count, room));
  } else {
    const std::size_t size = dtype_size(spec.dtype);
    if (*count > room.size() / size) return too_large(spec.name, *count * size, room.size());
    o.ref.bytes = *count * size;
    void* data = nullptr;
    MAYFLY_TRY(ort_.check(ort_.api->GetTensorMutableData(o.value.get(), &data), "model_run_failed", "read an output"));
    if (o.ref.bytes > 0) std::memcpy(room.data(), data, o.ref.bytes);
  }
  used_ = std::min<std::uint64_t>(align_tensor(used_ + o.ref.bytes), region.size());
  return Ok{};
}

Status SlotRunner::copy_strings(Output& o, std::uint64_t count, std::span<std::byte> room) {
  const std::string& name = session_.signature.outputs[o.index].name;
  std::size_t length = 0;
  MAYFLY_TRY(
      ort_.check(ort_.api->GetStringTensorDataLength(o.value.get(), &length), "model_run_failed", "measure strings"));
  const std::uint64_t need = length + count * kBytesPrefix;
  if (need > room.size()) return too_large(name, need, room.size());
  o.ref.bytes = need;
  if (count == 0) return Ok{};
  string_offsets_.resize(count);
  string_bytes_.resize(length + 1);
  MAYFLY_TRY(ort_.check(
      ort_.api->GetStringTensorContent(o.value.get(), string_bytes_.data(), length, string_offsets_.data(), count),
      "model_run_failed", "read strings"));
  std::byte* to = room.data();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t end = i + 1 < count ? string_offsets_[i + 1] : length;
    const auto n = static_cast<std::uint32_t>(end - string_offsets_[i]);
    std::memcpy(to, &n, kBytesPrefix);
    std::memcpy(to + kBytesPrefix, string_bytes_.data() + string_offsets_[i], n);
    to += kBytesPrefix + n;
  }
  return Ok{};
}

// Only where the scores are of one row: a batch has no single list of best classes.
Status SlotRunner::find_top(std::span<const std::byte> region, SlotResult& result) {
  for (const Output& o : outputs_) {
    if (o.index != transform_.classes_output) continue;
    const auto data = region.subspan(o.ref.offset, o.ref.bytes);
    if (!read_scores(static_cast<Dtype>(o.ref.dtype), data, scores_)) {
      return make_error(Code::kFailedPrecondition, "classes_transform_mismatch",
                        "the classes transform needs an output of FP16, "
                        "FP32 or FP64; \"{}\" is {}",
                        session_.signature.outputs[o.index].name, dtype_name(static_cast<Dtype>(o.ref.dtype)));
    }
    const std::uint64_t row = o.ref.rank > 0 ? static_cast<std::uint64_t>(o.ref.dims[o.ref.rank - 1]) : 1;
    if (row != scores_.size()) return Ok{};
    result.top_count =
        top_classes(scores_, std::min<std::uint32_t>(transform_.classes_top, kMaxTopClasses), result.top);
    return Ok{};
  }
  return make_error(Code::kFailedPrecondition, "classes_transform_mismatch",
                    "the classes transform reads output {}; the model "
                    "has {}",
                    transform_.classes_output, session_.output_names.size());
}

}  // namespace mayfly
