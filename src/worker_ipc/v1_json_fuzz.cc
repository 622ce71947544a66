// parse_v1 over arbitrary text; what it accepts must pass the instance's own check.
#include "worker_ipc/v1.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  static const auto several = signature_from_json(
      R"({"inputs":[{"name":"f","datatype":"FP32","shape":[-1]},{"name":"s","datatype":"BYTES","shape":[-1]},
      {"name":"i","datatype":"INT8","shape":[-1,2]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})");
  static const auto halves =
      signature_from_json(R"({"inputs":[{"name":"f","datatype":"FP16","shape":[-1,-1]}],"outputs":[]})");
  static const auto strings =
      signature_from_json(R"({"inputs":[{"name":"s","datatype":"BYTES","shape":[-1]}],"outputs":[]})");
  alignas(64) static std::byte region[1024];
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (const Signature* s : {&*several, &*halves, &*strings}) {
    for (bool picture : {false, true}) {
      SlotRequest rq;
      V1Request out;
      InputArea area(region);
      V1Options options;
      options.takes_picture = picture;
      if (!parse_v1(body, options, *s, rq, area, region, out).ok()) continue;
      MAYFLY_CHECK(check_request(rq, region, *s).ok());
      MAYFLY_CHECK(!out.picture || picture);
    }
    SlotRequest rq;
    V1Request out;
    InputArea area(region);
    if (parse_bare_rows(body, *s, rq, area, out).ok()) MAYFLY_CHECK(check_request(rq, region, *s).ok());
  }
  return 0;
}
