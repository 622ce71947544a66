#include "worker_ipc/oip.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>

#include "tensor/half.h"

namespace mayfly {
namespace {

Shape shape(std::initializer_list<std::int64_t> dims) {
  Shape s;
  for (const auto d : dims) s.dims[s.rank++] = d;
  return s;
}

struct Fixture {
  Signature sig;
  SlotRequest rq;
  InferRequest request;
  std::vector<std::byte> region = std::vector<std::byte>(1 << 16);

  Status parse(std::string_view body, std::optional<std::uint64_t> header = std::nullopt) {
    InputArea area(region);
    return parse_infer(body, header, sig, rq, area, request);
  }
  template <typename T>
  std::vector<T> input(std::size_t i) const {
    std::vector<T> v(rq.inputs[i].bytes / sizeof(T));
    if (!v.empty()) std::memcpy(v.data(), region.data() + rq.inputs[i].offset, rq.inputs[i].bytes);
    return v;
  }
};

Fixture one_input(Dtype t, Shape s) {
  Fixture f;
  f.sig.inputs = {{"x", t, s}};
  f.sig.outputs = {{"y", Dtype::kFp32, shape({-1, 4})}, {"s", Dtype::kBytes, shape({-1})}};
  return f;
}

TEST(OipParse, KeysInAnyOrder) {
  Fixture f = one_input(Dtype::kFp32, shape({-1, 2}));
  const Status s =
      f.parse(R"( {"ignored":{"a":[1,{"b":2}]},"inputs":[{"data":[[1,2.5],[-3e2, 4]],"extra":null,"shape":[2,2],)"
              R"("parameters":{"q":1},"name":"x","datatype":"FP32"}],"id":"q\u00e9",)"
              R"("parameters":{"binary_data_output":true},)"
              R"("outputs":[{"parameters":{"binary_data":false,"classification":2},"name":"y"}]} )");
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(f.input<float>(0), (std::vector<float>{1, 2.5, -300, 4}));
  EXPECT_EQ(f.request.id, "q\xC3\xA9");
  EXPECT_TRUE(f.request.binary_output_default);
  ASSERT_EQ(f.request.outputs.size(), 1U);
  EXPECT_EQ(f.request.outputs[0].binary, false);
  EXPECT_EQ(f.request.outputs[0].classification, 2U);
  EXPECT_EQ(f.rq.output_mask, 1U);
  EXPECT_TRUE(check_request(f.rq, f.region, f.sig).ok());
}

TEST(OipParse, SeveralInputsAreAligned) {
  Fixture f;
  f.sig.inputs = {{"a", Dtype::kInt8, shape({3})}, {"b", Dtype::kBytes, shape({-1})}, {"c", Dtype::kBool, shape({})}};
  const Status s = f.parse(R"({"inputs":[{"name":"b","shape":[2],"datatype":"BYTES","data":["a\n\ud83d\ude00",""]},)"
                           R"({"name":"c","shape":[],"datatype":"BOOL","data":[true]},)"
                           R"({"name":"a","shape":[3],"datatype":"INT8","data":[-128,0,127]}]})");
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(f.rq.input_count, 3U);
  const auto b = f.input<char>(0);
  EXPECT_EQ(std::string(b.begin(), b.end()), std::string("\6\0\0\0a\n\xF0\x9F\x98\x80\0\0\0\0", 14));
  EXPECT_EQ(f.rq.inputs[1].offset, 64U);
  EXPECT_EQ(f.rq.inputs[2].offset, 128U);
  EXPECT_EQ(f.input<std::int8_t>(2), (std::vector<std::int8_t>{-128, 0, 127}));
  EXPECT_EQ(f.rq.output_mask, ~std::uint64_t{0});
  EXPECT_TRUE(check_request(f.rq, f.region, f.sig).ok());
}

struct ErrorCase {
  const char* reason;
  Dtype dtype;
  std::string input;      // members of the one entry of "inputs"
  std::string rest = "";  // after the inputs array
  std::string tail = "";  // binary data
};

TEST(OipParse, ErrorTable) {
  const std::string ok = R"("name":"x","shape":[2],"datatype":)";
  const std::string f32 = ok + R"("FP32",)", i8 = ok + R"("INT8",)", str = ok + R"("BYTES",)", bol = ok + R"("BOOL",)";
  const ErrorCase cases[] = {
      {"malformed_json", Dtype::kFp32, f32 + R"("data":[1,2)"},
      {"malformed_json", Dtype::kFp32, f32 + R"("data":[1,,2])"},
      {"malformed_json", Dtype::kFp32, f32 + R"("data":[1,2,])"},
      {"malformed_json", Dtype::kFp32, f32 + R"("data":[1 2])"},
      {"malformed_json", Dtype::kFp32, f32 + R"("data":[1,2])", "}"},
      {"unknown_tensor", Dtype::kFp32, R"("name":"z","shape":[2],"datatype":"FP32","data":[1,2])"},
      {"unknown_tensor", Dtype::kFp32, f32 + R"("data":[1,2])", R"(,"outputs":[{"name":"z"}])"},
      {"duplicate_tensor", Dtype::kFp32, f32 + R"("data":[1,2]},{)" + f32 + R"("data":[1,2])"},
      {"duplicate_tensor", Dtype::kFp32, f32 + R"("data":[1,2])", R"(,"outputs":[{"name":"y"},{"name":"y"}])"},
      {"datatype_mismatch", Dtype::kFp32, i8 + R"("data":[1,2])"},
      {"datatype_mismatch", Dtype::kFp32, ok + R"("FP99","data":[1,2])"},
      {"tensor_shape_mismatch", Dtype::kFp32, R"("name":"x","shape":[3],"datatype":"FP32","data":[1,2,3])"},
      {"tensor_shape_mismatch", Dtype::kFp32, R"("name":"x","shape":[0],"datatype":"FP32","data":[])"},
      {"tensor_shape_mismatch", Dtype::kFp32, R"("name":"x","shape":[-2],"datatype":"FP32","data":[])"},
      {"tensor_shape_mismatch", Dtype::kFp32, R"("name":"x","shape":[2,1],"datatype":"FP32","data":[1,2])"},
      {"tensor_shape_mismatch", Dtype::kFp32, R"("shape":[1,1,1,1,1,1,1,1,1],"name":"x","datatype":"FP32","data":[1])"},
      {"invalid_value", Dtype::kFp32, R"("name":"x","shape":[2.5],"datatype":"FP32","data":[1,2])"},
      {"tensor_size_mismatch", Dtype::kFp32, f32 + R"("data":[1])"},
      {"tensor_size_mismatch", Dtype::kFp32, f32 + R"("data":[])"},
      {"tensor_size_mismatch", Dtype::kFp32, f32 + R"("data":[[1],[2,3]])"},
      {"value_out_of_range", Dtype::kFp32, f32 + R"("data":[1,1e39])"},
      {"value_out_of_range", Dtype::kInt8, i8 + R"("data":[1,128])"},
      {"value_out_of_range", Dtype::kInt8, i8 + R"("data":[1,-129])"},
      {"value_out_of_range", Dtype::kFp16, ok + R"("FP16","data":[1,65520])"},
      {"invalid_value", Dtype::kInt8, i8 + R"("data":[1,1.5])"},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":[1,"2"])"},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":[1,null])"},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":[1,NaN])"},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":[1,01])"},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":7)"},
      {"invalid_value", Dtype::kFp32, f32 + "\"data\":" + std::string(17, '[') + "1,2" + std::string(17, ']')},
      {"invalid_value", Dtype::kBool, bol + R"("data":[true,1])"},
      {"invalid_value", Dtype::kBytes, str + R"("data":["a",1])"},
      {"invalid_value", Dtype::kBytes, str + R"("data":["a","\ud800"])"},
      {"invalid_value", Dtype::kBytes, str + R"("data":["a","\x"])"},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":[1,2])", ",\"id\":\"" + std::string(1025, 'i') + "\""},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":[1,2])", ",\"id\":7"},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":[1,2])",
       R"(,"outputs":[{"name":"y","parameters":{"classification":1001}}])"},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":[1,2])",
       R"(,"outputs":[{"name":"s","parameters":{"classification":1}}])"},
      {"invalid_value", Dtype::kFp32, R"("shape":[2],"datatype":"FP32","data":[1,2])"},
      {"invalid_value", Dtype::kFp32, R"("name":"x","datatype":"FP32","data":[1,2])"},
      {"invalid_value", Dtype::kFp32, R"("name":"x","shape":[2],"datatype":"FP32")"},
      {"shared_memory_unsupported", Dtype::kFp32, f32 + R"("parameters":{"shared_memory_region":"r"})"},
      {"shared_memory_unsupported", Dtype::kFp32, f32 + R"("data":[1,2])",
       R"(,"outputs":[{"name":"y","parameters":{"shared_memory_region":"r"}}])"},
      {"tensor_size_mismatch", Dtype::kFp32, f32 + R"("parameters":{"binary_data_size":8})", "", "1234567"},
      {"tensor_size_mismatch", Dtype::kFp32, f32 + R"("parameters":{"binary_data_size":8})", "", "123456789"},
      {"tensor_size_mismatch", Dtype::kFp32, f32 + R"("parameters":{"binary_data_size":7})", "", "1234567"},
      {"tensor_size_mismatch", Dtype::kFp32, f32 + R"("data":[1,2])", "", "1"},
      {"invalid_value", Dtype::kFp32, f32 + R"("data":[1,2],"parameters":{"binary_data_size":8})", "", "12345678"},
      {"invalid_value", Dtype::kFp32, f32 + R"("parameters":{"binary_data_size":-8})", "", "12345678"},
      {"tensor_size_mismatch", Dtype::kBytes, str + R"("parameters":{"binary_data_size":8})", "", "12345678"},
      {"invalid_value", Dtype::kBool, bol + R"("parameters":{"binary_data_size":2})", "", "\1\2"},
  };
  int i = 0;
  for (const ErrorCase& c : cases) {
    Fixture f = one_input(c.dtype, shape({2}));
    const std::string json = "{\"inputs\":[{" + c.input + "}]" + c.rest + "}";
    const Status s = f.parse(json + c.tail, json.size());
    ASSERT_FALSE(s.ok()) << "case " << i << " " << json;
    EXPECT_EQ(s.error().reason, c.reason) << "case " << i << " " << json << ": " << s.error().message;
    EXPECT_EQ(s.error().code, Code::kInvalidArgument);
    ++i;
  }
}

TEST(OipParse, ErrorsOfTheWholeBody) {
  Fixture f = one_input(Dtype::kFp32, shape({2}));
  const std::string good = R"({"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}]})";
  EXPECT_TRUE(f.parse(good).ok());
  EXPECT_EQ(f.parse("").error().reason, "malformed_json");
  EXPECT_EQ(f.parse("   ").error().reason, "malformed_json");
  EXPECT_EQ(f.parse("{}").error().reason, "missing_tensor");
  EXPECT_EQ(f.parse(good, good.size() + 1).error().reason, "malformed_json");
  EXPECT_EQ(f.parse(good, 0).error().reason, "malformed_json");
  EXPECT_EQ(f.parse(good + "x").error().reason, "malformed_json");
  EXPECT_EQ(f.parse(good + good).error().reason, "malformed_json");
  EXPECT_EQ(f.parse("[" + good + "]").error().reason, "invalid_value");
  EXPECT_FALSE(f.parse("{\"inputs\":" + std::string(100'000, '[')).ok());
  EXPECT_FALSE(f.parse(std::string("{\"a\":\"\xFF\",") + good.substr(1)).ok());
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(f.parse(good.substr(0, n)).ok()) << n;
}

TEST(OipParse, TooLargeForTheRegion) {
  Fixture f = one_input(Dtype::kFp32, shape({-1}));
  f.region.resize(64);
  const auto body = [](const char* shape_text, const char* data) {
    return fmt::format(R"({{"inputs":[{{"name":"x","shape":{},"datatype":"FP32","data":{}}}]}})", shape_text, data);
  };
  EXPECT_TRUE(f.parse(body("[16]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]")).ok());
  EXPECT_EQ(f.parse(body("[17]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]")).error().reason, "payload_too_large");
  EXPECT_EQ(f.parse(body("[9223372036854775807]", "[]")).error().reason, "payload_too_large");
  EXPECT_TRUE(f.parse(body("[0]", "[]")).ok());
  Fixture s = one_input(Dtype::kBytes, shape({1}));
  s.region.resize(64);
  const auto text = [](std::size_t n) {
    return R"({"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":[")" + std::string(n, 'a') + "\"]}]}";
  };
  EXPECT_TRUE(s.parse(text(60)).ok());
  EXPECT_EQ(s.parse(text(61)).error().reason, "payload_too_large");
}

// ---- printing, and round trips of random tensors ----

void put_output(SlotResult& r, std::uint32_t index, const TensorSpec& spec, const Shape& s, std::uint64_t bytes) {
  TensorRef& t = r.outputs[r.output_count++];
  t.index = index;
  t.dtype = static_cast<std::uint8_t>(spec.dtype);
  t.rank = s.rank;
  std::memcpy(t.dims, s.dims.data(), sizeof(t.dims));
  t.bytes = bytes;
}

bool is_nan_at(Dtype t, const std::byte* p) {
  std::uint64_t v = 0;
  std::memcpy(&v, p, dtype_size(t));
  switch (t) {
    case Dtype::kFp16:
      return (v & 0x7C00) == 0x7C00;
    case Dtype::kBf16:
      return (v & 0x7F80) == 0x7F80;
    case Dtype::kFp32:
      return (v & 0x7F800000) == 0x7F800000;
    case Dtype::kFp64:
      return !std::isfinite(std::bit_cast<double>(v));
    default:
      return false;
  }
}

std::string random_bytes(Dtype t, std::uint64_t count, std::mt19937_64& rng) {
  std::string s;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (t == Dtype::kBytes) {
      const auto n = static_cast<std::uint32_t>(rng() % 20);
      s.append(reinterpret_cast<const char*>(&n), 4);
      for (std::uint32_t j = 0; j < n; ++j) s += static_cast<char>(rng() % 128);  // any ASCII, control characters too
      continue;
    }
    std::byte v[8];
    do {
      const std::uint64_t x = t == Dtype::kBool ? rng() % 2 : rng() >> (rng() % 3 * 16);
      std::memcpy(v, &x, 8);
    } while (is_nan_at(t, v));  // JSON can't carry it back
    s.append(reinterpret_cast<const char*>(v), dtype_size(t));
  }
  return s;
}

// Prints `content` as an output, in JSON or binary; parses that text as an input; expects the same bytes.
void round_trip(Dtype t, bool binary, std::mt19937_64& rng) {
  Shape s;
  s.rank = static_cast<std::uint8_t>(rng() % 4);
  for (std::size_t i = 0; i < s.rank; ++i) s.dims[i] = static_cast<std::int64_t>(rng() % 6);
  const std::string content = random_bytes(t, *element_count(s), rng);
  Fixture f;
  f.sig.inputs = f.sig.outputs = {{"x", t, s}};
  for (std::size_t i = 0; i < s.rank; ++i) f.sig.inputs[0].shape.dims[i] = -1;
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], s, content.size());
  InferRequest ask;
  ask.binary_output_default = binary;
  std::string out = "previous";
  std::size_t json_bytes = 0;
  bool any_binary = false;
  ASSERT_TRUE(
      print_infer_response(out, json_bytes, any_binary, "m", "1", ask, f.sig, r, std::as_bytes(std::span(content)))
          .ok());
  ASSERT_EQ(any_binary, binary);
  std::string body = out.substr(8);
  const std::string key = "\"outputs\":", same = "\"inputs\": ";
  body.replace(body.find(key), key.size(), same);
  const Status parsed = f.parse(body, json_bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message << "\n" << body;
  const auto back = f.input<char>(0);
  ASSERT_EQ(std::string(back.begin(), back.end()), content) << dtype_name(t) << "\n" << body;
  ASSERT_TRUE(check_request(f.rq, f.region, f.sig).ok());
}

TEST(OipProperty, EveryDtypeRoundTrips) {
  const std::uint64_t seed = std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  for (std::uint8_t t = 1; t < kDtypeCount; ++t) {
    for (int i = 0; i < 300 && !testing::Test::HasFatalFailure(); ++i)
      round_trip(static_cast<Dtype>(t), i % 2 == 1, rng);
  }
}

// Cuts and flips of a good request: no crash, and what is accepted is consistent.
TEST(OipProperty, MutatedRequests) {
  const std::uint64_t seed = std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  const std::string good = R"({"id":"a","inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1.25,2e1]}],)"
                           R"("outputs":[{"name":"y","parameters":{"binary_data":true}}]})";
  constexpr std::string_view kBytes = "[]{},:\"\\0-9.e tfn\xFF";
  Fixture f = one_input(Dtype::kFp32, shape({-1}));
  for (int i = 0; i < 20'000; ++i) {
    std::string s = good;
    for (std::uint64_t n = rng() % 4; n > 0; --n) s[rng() % s.size()] = kBytes[rng() % kBytes.size()];
    if (rng() % 4 == 0) s.resize(rng() % s.size());
    if (f.parse(s).ok()) ASSERT_TRUE(check_request(f.rq, f.region, f.sig).ok()) << s;
  }
}

std::string print(const Fixture& f, const InferRequest& ask, const SlotResult& r, std::span<const std::byte> region) {
  std::string out;
  std::size_t json_bytes = 0;
  bool any_binary = false;
  EXPECT_TRUE(print_infer_response(out, json_bytes, any_binary, "m\"", "3", ask, f.sig, r, region).ok());
  EXPECT_EQ(json_bytes == out.size(), !any_binary);
  return out;
}

TEST(OipPrint, TextOfFloatsAndOrder) {
  Fixture f;
  f.sig.outputs = {{"y", Dtype::kFp32, shape({-1})}, {"b", Dtype::kBool, shape({1})}};
  const float v[] = {1, 0.1F, -0.0F, NAN, INFINITY, -INFINITY, 1e20F, 3.4028235e38F};
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], shape({8}), sizeof(v));
  put_output(r, 1, f.sig.outputs[1], shape({1}), 1);
  InferRequest ask;
  ask.id = "7";
  EXPECT_EQ(print(f, ask, r, std::as_bytes(std::span(v))),
            R"({"model_name":"m\"","model_version":"3","id":"7","outputs":[{"name":"y","datatype":"FP32","shape":[8],)"
            R"("data":[1.0,0.1,-0.0,NaN,Infinity,-Infinity,1e+20,3.4028235e+38]},)"
            R"({"name":"b","datatype":"BOOL","shape":[1],"data":[false]}]})");
  ask.id.clear();
  ask.outputs = {{1, true, 0}, {0, std::nullopt, 2}};
  EXPECT_EQ(
      print(f, ask, r, std::as_bytes(std::span(v))),
      std::string(R"({"model_name":"m\"","model_version":"3","outputs":[{"name":"b","datatype":"BOOL","shape":[1],)"
                  R"("parameters":{"binary_data_size":1}},)"
                  R"({"name":"y","datatype":"BYTES","shape":[2],"data":["inf:4",)"
                  R"("340282346638528859811704183484516925440.000000:7"]}]})") +
          '\0');
}

TEST(OipPrint, ClassificationPerRow) {
  Fixture f;
  f.sig.outputs = {{"y", Dtype::kFp16, shape({-1, 3})}};
  const std::uint16_t v[] = {half_from_double(0.25), half_from_double(0.5), half_from_double(0.25),
                             half_from_double(NAN),  half_from_double(-1),  half_from_double(2)};
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], shape({2, 3}), sizeof(v));
  InferRequest ask;
  ask.outputs = {{0, std::nullopt, 2}};
  const std::string out = print(f, ask, r, std::as_bytes(std::span(v)));
  EXPECT_NE(out.find(R"("shape":[2,2],"data":["0.500000:1","0.250000:0","2.000000:2","-1.000000:1"])"),
            std::string::npos)
      << out;
}

TEST(OipPrint, StringsChangedAfterTheCheckStayInBounds) {
  Fixture f;
  f.sig.outputs = {{"s", Dtype::kBytes, shape({-1})}};
  const std::string region("\1\0\0\0\xFF\xFF\xFF\xFF\x7F", 9);
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], shape({2}), region.size());
  EXPECT_NE(print(f, {}, r, std::as_bytes(std::span(region))).find("\"data\":[\"\xEF\xBF\xBD\"]"), std::string::npos);
}

TEST(OipPrint, AnOutputThatTheInstanceDidNotReturnIsAnError) {
  Fixture f;
  f.sig.outputs = {{"y", Dtype::kInt8, shape({1})}, {"z", Dtype::kInt8, shape({1})}};
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], shape({1}), 1);
  const std::byte region[1] = {};
  std::string out;
  std::size_t json_bytes = 0;
  bool any_binary = false;
  InferRequest ask;
  const Status all = print_infer_response(out, json_bytes, any_binary, "m", "1", ask, f.sig, r, region);
  ASSERT_FALSE(all.ok());
  EXPECT_EQ(all.error().reason, "instance_protocol_violation");
  EXPECT_EQ(out, "");
  ask.outputs = {{0, {}, 0}};
  EXPECT_TRUE(print_infer_response(out, json_bytes, any_binary, "m", "1", ask, f.sig, r, region).ok());
}

// Not a benchmark: guards against the parse becoming a hundred times slower, and prints what it took.
TEST(OipParse, LargeFloatArray) {
  std::mt19937_64 rng(1);
  std::string data;
  std::vector<float> want;
  while (data.size() < 600'000) {
    want.push_back(static_cast<float>(static_cast<double>(rng() % 2'000'000'000) / 1e9 - 1));
    data += (data.empty() ? "" : ",") + fmt::format("{}", want.back());
  }
  Fixture f = one_input(Dtype::kFp32, shape({-1}));
  f.region.resize(1 << 20);
  const std::string body =
      fmt::format(R"({{"inputs":[{{"name":"x","shape":[{}],"datatype":"FP32","data":[{}]}}]}})", want.size(), data);
  ASSERT_TRUE(f.parse(body).ok());
  EXPECT_EQ(f.input<float>(0), want);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(f.parse(body).ok());
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start) / 20;
  std::printf("%zu floats, %zu bytes of JSON: %lld us\n", want.size(), body.size(), static_cast<long long>(us.count()));
  EXPECT_LT(us.count(), 500'000);
}

}  // namespace
}  // namespace mayfly
