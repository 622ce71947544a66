// parse_infer over arbitrary JSON; what it accepts must pass the instance's own check.
#include "worker_ipc/oip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  static const auto sig = signature_from_json(
      R"({"inputs":[{"name":"f","datatype":"FP32","shape":[-1]},{"name":"s","datatype":"BYTES","shape":[-1]},
      {"name":"i","datatype":"INT8","shape":[]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})");
  static const auto one =
      signature_from_json(R"({"inputs":[{"name":"f","datatype":"FP16","shape":[-1,-1]}],"outputs":[]})");
  alignas(64) static std::byte region[1024];
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (const Signature* s : {&*sig, &*one}) {
    SlotRequest rq;
    InferRequest out;
    InputArea area(region);
    if (parse_infer(body, std::nullopt, *s, rq, area, out).ok()) MAYFLY_CHECK(check_request(rq, region, *s).ok());
  }
  return 0;
}
