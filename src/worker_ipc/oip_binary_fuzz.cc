// parse_infer over JSON and binary data: the first two bytes of the input choose the header length.
#include "worker_ipc/oip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  static const auto sig = signature_from_json(
      R"({"inputs":[{"name":"f","datatype":"FP32","shape":[-1]},{"name":"s","datatype":"BYTES","shape":[-1]},
      {"name":"b","datatype":"BOOL","shape":[2]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})");
  alignas(64) static std::byte region[1024];
  if (size < 2) return 0;
  const std::uint64_t header = data[0] * 256U + data[1];
  const std::string_view body(reinterpret_cast<const char*>(data + 2), size - 2);
  SlotRequest rq;
  InferRequest out;
  InputArea area(region);
  if (parse_infer(body, header, *sig, rq, area, out).ok()) MAYFLY_CHECK(check_request(rq, region, *sig).ok());
  return 0;
}
