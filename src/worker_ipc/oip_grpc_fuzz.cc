// The gRPC codec over arbitrary messages: what it accepts must pass the instance's own check, and what it printed of
// that must be readable.
#include "worker_ipc/oip_grpc.h"
#include "worker_ipc/proto_wire.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  static const auto sig = signature_from_json(
      R"({"inputs":[{"name":"f","datatype":"FP32","shape":[-1]},{"name":"s","datatype":"BYTES","shape":[-1]},
      {"name":"i","datatype":"INT8","shape":[]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]},
      {"name":"n","datatype":"INT16","shape":[-1]}]})");
  static const auto one =
      signature_from_json(R"({"inputs":[{"name":"f","datatype":"FP16","shape":[-1,-1]}],"outputs":[]})");
  static const auto wide = signature_from_json(
      R"({"inputs":[{"name":"u","datatype":"UINT64","shape":[-1]},{"name":"b","datatype":"BOOL","shape":[2]}],
      "outputs":[{"name":"y","datatype":"BYTES","shape":[-1]}]})");
  alignas(64) static std::byte region[1024];
  const std::string_view message(reinterpret_cast<const char*>(data), size);
  static GrpcInfer parts;
  if (!scan_infer_grpc(message, parts).ok()) return 0;
  for (const Signature* s : {&*sig, &*one, &*wide}) {
    SlotRequest rq;
    InferRequest out;
    InputArea area(region);
    if (!parse_infer_grpc(parts, *s, rq, area, out).ok()) continue;
    MAYFLY_CHECK(check_request(rq, region, *s).ok());
    SlotResult result;
    for (std::uint32_t i = 0; i < s->outputs.size(); ++i) {
      TensorRef& t = result.outputs[result.output_count++];
      t.index = i;
      t.rank = 1;
      t.dims[0] = 3;
      t.bytes = s->outputs[i].dtype == Dtype::kBytes ? 64 : 3 * dtype_size(s->outputs[i].dtype);
    }
    std::string printed;
    MAYFLY_CHECK(print_infer_grpc(printed, "m", "1", out, *s, result, region, FinalMark::kFinal).ok());
    WireReader fields(printed);
    WireField f;
    while (fields.next(f)) {
    }
    MAYFLY_CHECK(fields.ok());
  }
  return 0;
}
