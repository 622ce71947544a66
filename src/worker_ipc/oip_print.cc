// print_infer_response: JSON and binary forms of outputs, straight from the output region. The region belongs to an
// instance that may be writing to it now: lengths in it are bounded before they are used.
#include "base/text.h"
#include "tensor/bytes.h"
#include "tensor/json.h"
#include "worker_ipc/oip.h"
#include "worker_ipc/oip_classify.h"

namespace mayfly {
namespace {

// One output to print. Its bytes lie in the region, or in `made` where the server made it (classification).
struct Piece : OutputView {
  std::string made;
  bool binary = false;
  const SharedPlace* shared = nullptr;  // it was written there
  std::span<const std::byte> bytes() const { return made.empty() ? data : std::as_bytes(std::span(made)); }
};

Result<std::vector<Piece>> pieces_of(const InferRequest& rq, const Signature& sig, const SlotResult& r,
                                     std::span<const std::byte> region) {
  std::vector<InferRequest::Out> all;
  for (std::uint32_t i = 0; rq.outputs.empty() && i < sig.outputs.size(); ++i) all.push_back({i, {}, 0, {}});
  std::vector<Piece> pieces;
  for (const InferRequest::Out& o : rq.outputs.empty() ? all : rq.outputs) {
    auto view = view_output(sig, r, region, o.index);
    if (!view.ok()) return std::move(view.error());
    Piece t;
    static_cast<OutputView&>(t) = *view;
    t.binary = o.binary.value_or(rq.binary_output_default);
    if (o.classification > 0) t.made = classify(t, o.classification);
    if (o.shared) {
      MAYFLY_TRY(write_shared_output(rq.shared_memory, o.shared, t.name, t.bytes()));
      t.shared = &o.shared;
      t.binary = false;
    }
    pieces.push_back(std::move(t));
  }
  return pieces;
}

void print_piece(std::string& out, const Piece& t) {
  out += "{\"name\":";
  append_json_string(out, t.name);
  out.append(",\"datatype\":\"").append(dtype_name(t.dtype)).append("\",\"shape\":[");
  for (std::size_t i = 0; i < t.shape.rank; ++i) {
    if (i > 0) out += ',';
    append_number(out, static_cast<std::uint64_t>(t.shape.dims[i]));  // an answer's dimensions are not negative
  }
  out += ']';
  if (t.shared != nullptr) {
    out += ",\"parameters\":{\"shared_memory_region\":";
    append_json_string(out, t.shared->region);
    if (t.shared->offset > 0) fmt::format_to(std::back_inserter(out), ",\"shared_memory_offset\":{}", t.shared->offset);
    fmt::format_to(std::back_inserter(out), ",\"shared_memory_byte_size\":{}}}}}", t.bytes().size());
    return;
  }
  if (t.binary) {
    fmt::format_to(std::back_inserter(out), ",\"parameters\":{{\"binary_data_size\":{}}}}}", t.bytes().size());
    return;
  }
  out += ",\"data\":[";
  std::span<const std::byte> rest = t.bytes();
  append_elements(out, t.dtype, rest, t.count);
  out += "]}";
}

}  // namespace

Status print_infer_response(std::string& out, std::size_t& json_bytes, bool& any_binary, std::string_view model,
                            std::string_view version, const InferRequest& rq, const Signature& sig, const SlotResult& r,
                            std::span<const std::byte> output_region) {
  const std::size_t start = out.size();
  auto made = pieces_of(rq, sig, r, output_region);
  if (!made.ok()) return std::move(made.error());
  const std::vector<Piece>& pieces = *made;
  any_binary = false;
  out += "{\"model_name\":";
  append_json_string(out, model);
  out += ",\"model_version\":";
  append_json_string(out, version);
  if (!rq.id.empty()) {
    out += ",\"id\":";
    append_json_string(out, rq.id);
  }
  out += ",\"outputs\":[";
  for (const Piece& t : pieces) {
    if (&t != pieces.data()) out += ',';
    print_piece(out, t);
  }
  out += "]}";
  json_bytes = out.size() - start;
  for (const Piece& t : pieces) {
    if (!t.binary) continue;
    any_binary = true;
    const auto bytes = t.bytes();
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return Ok{};
}

}  // namespace mayfly
