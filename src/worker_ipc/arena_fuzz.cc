// read_result over arbitrary slot content, and the printer over what it lets through.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "worker_ipc/oip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  static const ArenaGeometry geometry{.slot_count = 1, .input_capacity = 4096, .output_capacity = 4096};
  static void* const memory = std::aligned_alloc(4096, geometry.total_bytes());
  static const Signature sig = {{},
                                {{"f", Dtype::kFp32, {}},
                                 {"s", Dtype::kBytes, {}},
                                 {"h", Dtype::kFp16, {}},
                                 {"b", Dtype::kBool, {}},
                                 {"i", Dtype::kInt64, {}}}};
  const ArenaView view(memory, geometry);
  // Layout of the input: status and counts, tensor headers, then the region.
  SlotResult& r = view.slot(0).result;
  std::memset(static_cast<void*>(&r), 0, sizeof(r));
  const auto take = [&](void* to, std::size_t n) {
    n = std::min(n, size);
    std::memcpy(to, data, n);
    data += n;
    size -= n;
  };
  take(&r.status, sizeof(r.status));
  take(&r.output_count, sizeof(r.output_count));
  take(&r.top_count, sizeof(r.top_count));
  take(r.outputs, sizeof(TensorRef) * std::min<std::uint32_t>(r.output_count, 5));
  std::memset(view.output(0).data(), 0, view.output(0).size());
  take(view.output(0).data(), view.output(0).size());
  SlotResult checked;
  if (!read_result(view, 0, sig, checked).ok()) return 0;
  InferRequest rq;
  rq.outputs = {{0, false, 3}, {1, false, 0}, {2, false, 0}, {3, true, 0}, {4, false, 0}};
  std::string out;
  std::size_t json_bytes = 0;
  bool any_binary = false;
  // An error where the result lacks an output that is asked for.
  static_cast<void>(print_infer_response(out, json_bytes, any_binary, "m", "1", rq, sig, checked, view.output(0)).ok());
  MAYFLY_CHECK(json_bytes <= out.size());
  return 0;
}
