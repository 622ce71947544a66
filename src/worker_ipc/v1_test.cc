#include "worker_ipc/v1.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

namespace mayfly {
namespace {

Shape shape(std::initializer_list<std::int64_t> dims) {
  Shape s;
  for (std::int64_t d : dims) s.dims[s.rank++] = d;
  return s;
}

struct Fixture {
  Signature sig;
  SlotRequest rq;
  V1Request out;
  V1Options options;
  alignas(64) std::byte memory[4096];
  std::size_t room = sizeof(memory);

  Status parse(std::string_view body) {
    const std::span<std::byte> region(memory, room);
    InputArea area(region);
    return parse_v1(body, options, sig, rq, area, region, out);
  }
  std::string reason(std::string_view body) {
    const Status s = parse(body);
    return s.ok() ? "ok" : s.error().reason;
  }
  template <typename T>
  std::vector<T> input(std::uint32_t index) const {
    for (std::uint32_t i = 0; i < rq.input_count; ++i) {
      const TensorRef& t = rq.inputs[i];
      if (t.index != index) continue;
      std::vector<T> v(t.bytes / sizeof(T));
      if (t.bytes > 0) std::memcpy(v.data(), memory + t.offset, t.bytes);
      return v;
    }
    return {};
  }
  std::string dims(std::uint32_t index) const {
    for (std::uint32_t i = 0; i < rq.input_count; ++i) {
      if (rq.inputs[i].index != index) continue;
      Shape s;
      s.rank = rq.inputs[i].rank;
      std::memcpy(s.dims.data(), rq.inputs[i].dims, sizeof(rq.inputs[i].dims));
      return to_string(s);
    }
    return "none";
  }
};

Fixture one(Dtype t, Shape s) {
  Fixture f;
  f.sig.inputs = {{"x", t, s}};
  f.sig.outputs = {{"y", t, s}};
  return f;
}

Fixture three() {
  Fixture f;
  f.sig.inputs = {
      {"f", Dtype::kFp32, shape({-1})}, {"s", Dtype::kBytes, shape({-1})}, {"i", Dtype::kInt8, shape({-1, 2})}};
  return f;
}

TEST(V1Parse, RowsAndColumnsOfOneInput) {
  Fixture f = one(Dtype::kFp32, shape({-1, 2}));
  for (std::string_view body :
       {R"({"instances":[[1,2],[3,4]]})", R"({"inputs":[[1,2],[3,4]]})", R"({"instances":[{"x":[1,2]},{"x":[3,4]}]})",
        R"({"inputs":{"x":[[1,2],[3,4]]}})",
        R"( { "signature_name" : "serving_default" , "instances" : [ [ 1 , 2 ] , [ 3 , 4 ] ] } )",
        R"({"instances":[[1,2],[3,4]],"signature_name":"","other":{"a":[1]}})"}) {
    ASSERT_TRUE(f.parse(body).ok()) << body << f.parse(body).error().message;
    EXPECT_EQ(f.input<float>(0), (std::vector<float>{1, 2, 3, 4})) << body;
    EXPECT_EQ(f.dims(0), "[2,2]");
    EXPECT_EQ(f.out.form == V1Form::kRows, body.find("instances") != std::string_view::npos);
    if (f.out.form == V1Form::kRows) EXPECT_EQ(f.out.rows, 2u);
    EXPECT_TRUE(check_request(f.rq, f.memory, f.sig).ok());
  }
}

TEST(V1Parse, NamedRowsBecomeOneTensorEach) {
  Fixture f = three();
  ASSERT_TRUE(f.parse(R"({"instances":[{"i":[1,-2],"f":1.5,"s":"ab"},{"s":{"b64":"Zm9v"},"f":-2,"i":[3,4]}]})").ok());
  EXPECT_EQ(f.input<float>(0), (std::vector<float>{1.5, -2}));
  EXPECT_EQ(f.input<std::int8_t>(2), (std::vector<std::int8_t>{1, -2, 3, 4}));
  const auto s = f.input<char>(1);
  EXPECT_EQ(std::string(s.begin(), s.end()), std::string("\2\0\0\0ab\3\0\0\0foo", 13));
  EXPECT_EQ(f.dims(0), "[2]");
  EXPECT_EQ(f.dims(2), "[2,2]");
  EXPECT_TRUE(check_request(f.rq, f.memory, f.sig).ok());
}

TEST(V1Parse, NaNAndInfinity) {
  Fixture f = one(Dtype::kFp32, shape({-1}));
  ASSERT_TRUE(f.parse(R"({"instances":[NaN,Infinity,-Infinity,Inf,-Inf,1]})").ok());
  const auto v = f.input<float>(0);
  ASSERT_EQ(v.size(), 6u);
  EXPECT_TRUE(std::isnan(v[0]) && std::isinf(v[1]) && v[1] > 0 && std::isinf(v[2]) && v[2] < 0 && std::isinf(v[3]));
  for (std::string_view bad : {"nan", "-NaN", "NaNs", "Infinit", "--Inf", "+Inf", "INF"})
    EXPECT_EQ(f.reason(fmt::format(R"({{"instances":[{}]}})", bad)), "invalid_value") << bad;
  Fixture half = one(Dtype::kFp16, shape({-1}));
  EXPECT_TRUE(half.parse(R"({"instances":[NaN,Infinity]})").ok());
  EXPECT_EQ(half.reason(R"({"instances":[1e6]})"), "value_out_of_range");
  EXPECT_EQ(one(Dtype::kInt32, shape({-1})).reason(R"({"instances":[NaN]})"), "invalid_value");
}

TEST(V1Parse, Base64) {
  Fixture f = one(Dtype::kBytes, shape({-1}));
  ASSERT_TRUE(f.parse(R"({"instances":[{"b64":"Zm9v"},{ "b64" : "\/\/8=" },"text"]})").ok());
  const auto s = f.input<char>(0);
  EXPECT_EQ(std::string(s.begin(), s.end()), std::string("\3\0\0\0foo\2\0\0\0\xFF\xFF\4\0\0\0text", 21));
  for (std::string_view bad : {R"({"b64":"Z"})", R"({"b64":"Zm9v","a":1})", R"({"b64":7})", R"({"b64":"Zm 9"})"})
    EXPECT_EQ(f.reason(fmt::format(R"({{"inputs":[{}]}})", bad)), "invalid_value") << bad;
}

TEST(V1Parse, ErrorTable) {
  struct Case {
    std::string_view reason, body;
  };
  Fixture f = one(Dtype::kFp32, shape({-1, 2}));
  const Case cases[] = {
      {"malformed_json", ""},
      {"malformed_json", "{"},
      {"malformed_json", R"({"instances":[[1,2]]}x)"},
      {"malformed_json", R"({"instances":[[1,2])"},
      {"malformed_json", R"({"instances":[[1 2]]})"},
      {"malformed_json", R"({"instances":[[1,]]})"},
      {"malformed_json", R"({"instances":[[1,2],]})"},
      {"invalid_value", "[[1,2]]"},
      {"missing_tensor", "{}"},
      {"missing_tensor", R"({"instance":[[1,2]]})"},
      {"missing_tensor", R"({"instances":[]})"},
      {"missing_tensor", R"({"instances":[{}]})"},
      {"invalid_value", R"({"instances":7})"},
      {"invalid_value", R"({"instances":{"x":[1,2]}})"},
      {"invalid_value", R"({"instances":[[1,2]],"inputs":[[1,2]]})"},
      {"invalid_value", R"({"instances":[[1,2]],"instances":[[1,2]]})"},
      {"invalid_value", R"({"signature_name":"other","instances":[[1,2]]})"},
      {"invalid_value", R"({"signature_name":3,"instances":[[1,2]]})"},
      {"invalid_value", R"({"instances":[["a",2]]})"},
      {"invalid_value", R"({"instances":[[null,2]]})"},
      {"invalid_value", R"({"instances":[{"x":[1,2]},[3,4]]})"},
      {"tensor_shape_mismatch", R"({"instances":[1,2]})"},
      {"tensor_shape_mismatch", R"({"instances":[[1,2,3]]})"},
      {"tensor_shape_mismatch", R"({"instances":[[1,2],[3]]})"},
      {"tensor_shape_mismatch", R"({"instances":[[1,2],3]})"},
      {"tensor_shape_mismatch", R"({"instances":[[1,2],[[3,4]]]})"},
      {"tensor_shape_mismatch", R"({"instances":[[],[[]]]})"},
      {"tensor_shape_mismatch", R"({"instances":[[[1],[]]]})"},
      {"tensor_shape_mismatch", R"({"instances":[[[[[[[[[1]]]]]]]]]})"},
      {"tensor_shape_mismatch", R"({"inputs":7})"},
      {"tensor_shape_mismatch", R"({"instances":[{"x":[1,2]},{"x":[3]}]})"},
      {"unknown_tensor", R"({"instances":[{"z":[1,2]}]})"},
      {"unknown_tensor", R"({"inputs":{"z":[[1,2]]}})"},
      {"duplicate_tensor", R"({"inputs":{"x":[[1,2]],"x":[[1,2]]}})"},
      {"value_out_of_range", R"({"instances":[[1e39,2]]})"},
  };
  for (const Case& c : cases) {
    const Status s = f.parse(c.body);
    ASSERT_FALSE(s.ok()) << c.body;
    EXPECT_EQ(s.error().reason, c.reason) << c.body << ": " << s.error().message;
    EXPECT_EQ(s.error().code, Code::kInvalidArgument);
  }
  Fixture many = three();
  EXPECT_EQ(many.reason(R"({"instances":[[1,2]]})"), "missing_tensor");
  EXPECT_EQ(many.reason(R"({"instances":[{"f":1,"s":"a"}]})"), "missing_tensor");
  EXPECT_EQ(many.reason(R"({"instances":[{"f":1 2,"s":"a","i":[1,2]}]})"), "malformed_json");
}

TEST(V1Parse, LargerThanTheRegion) {
  Fixture f = one(Dtype::kFp32, shape({-1}));
  f.room = 64;
  EXPECT_EQ(f.reason(R"({"instances":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]})"), "ok");
  EXPECT_EQ(f.reason(R"({"instances":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]})"), "payload_too_large");
  std::string rows;
  for (int i = 0; i < 17; ++i) rows += (i ? "," : "") + std::string(R"({"x":1})");
  EXPECT_EQ(f.reason("{\"instances\":[" + rows + "]}"), "payload_too_large");
  Fixture s = one(Dtype::kBytes, shape({-1}));
  s.room = 64;
  EXPECT_EQ(s.reason("{\"instances\":[\"" + std::string(60, 'a') + "\"]}"), "ok");
  EXPECT_EQ(s.reason("{\"instances\":[\"" + std::string(61, 'a') + "\"]}"), "payload_too_large");
}

TEST(V1Parse, Pictures) {
  Fixture f = one(Dtype::kFp32, shape({-1, 3, 2, 2}));
  f.options.takes_picture = true;
  for (std::string_view body : {R"({"instances":[{"b64":"Zm9v"}]})", R"({"instances":[{"image":{"b64":"Zm9v"}}]})",
                                R"({"inputs":{"b64":"Zm9v"}})", R"({"inputs":{"any name" : { "b64":"Zm9v" } } })"}) {
    ASSERT_TRUE(f.parse(body).ok()) << body << f.parse(body).error().message;
    EXPECT_TRUE(f.out.picture);
    EXPECT_EQ(f.rq.kind, RequestKind::kImage);
    EXPECT_EQ(f.rq.raw_bytes, 3u);
    EXPECT_EQ(std::memcmp(f.memory, "foo", 3), 0);
  }
  EXPECT_TRUE(f.parse(R"({"instances":[[[[1,2],[3,4]],[[1,2],[3,4]],[[1,2],[3,4]]]]})").ok()) << "tensors as well";
  EXPECT_FALSE(f.out.picture);
  for (std::string_view bad : {R"({"instances":[{"b64":"Zm9v"},{"b64":"Zm9v"}]})", R"({"instances":[{"b64":"Z"}]})",
                               R"({"instances":[{"b64":""}]})", R"({"instances":[{"a":1}]})",
                               R"({"inputs":{"a":{"b64":"Zm9v"},"b":1}})", R"({"instances":[{}]})"}) {
    EXPECT_EQ(f.reason(bad), "invalid_value") << bad;
  }
  f.room = 2;
  EXPECT_EQ(f.reason(R"({"inputs":{"b64":"Zm9v"}})"), "invalid_value");
}

TEST(V1Parse, BareRows) {
  Fixture f = one(Dtype::kFp32, shape({-1, 2}));
  const auto reason = [&](std::string_view body) {
    InputArea area(f.memory);
    const Status s = parse_bare_rows(body, f.sig, f.rq, area, f.out);
    return s.ok() ? std::string("ok") : s.error().reason;
  };
  EXPECT_EQ(reason(" [[1,2],[3,4]] \n"), "ok");
  EXPECT_EQ(f.input<float>(0), (std::vector<float>{1, 2, 3, 4}));
  for (std::string_view bad : {"[[1,2]]]", "[[1,2]] [3]", "[[1,2]", "7", ""})
    EXPECT_EQ(reason(bad), "malformed_json") << bad;
  EXPECT_EQ(reason(std::string_view("[[1,2]]\0]", 9)), "malformed_json");
  EXPECT_EQ(reason("[]"), "missing_tensor");
}

void put(SlotResult& r, std::uint32_t index, const Shape& s, std::uint64_t offset, std::uint64_t bytes) {
  TensorRef& t = r.outputs[r.output_count++];
  t.index = index;
  t.rank = s.rank;
  std::memcpy(t.dims, s.dims.data(), sizeof(t.dims));
  t.offset = offset;
  t.bytes = bytes;
}

std::string print(const Fixture& f, const SlotResult& r, std::span<const std::byte> region) {
  std::string out;
  const Status s = print_v1_response(out, f.out, f.sig, r, region);
  return s.ok() ? out : s.error().reason;
}

TEST(V1Print, OneOutput) {
  Fixture f = one(Dtype::kFp32, shape({-1, 2}));
  f.out.rows = 2;
  const float v[] = {1, NAN, -INFINITY, 0.5};
  SlotResult r;
  put(r, 0, shape({2, 2}), 0, sizeof(v));
  const auto region = std::as_bytes(std::span(v));
  EXPECT_EQ(print(f, r, region), R"({"predictions":[[1.0,NaN],[-Infinity,0.5]]})");
  f.out.form = V1Form::kColumns;
  EXPECT_EQ(print(f, r, region), R"({"outputs":[[1.0,NaN],[-Infinity,0.5]]})");
  f.out = {V1Form::kRows, 3, false};
  EXPECT_EQ(print(f, r, region), "not_batched");
}

TEST(V1Print, SeveralOutputs) {
  Fixture f;
  f.sig.outputs = {
      {"n", Dtype::kInt64, shape({-1})}, {"s", Dtype::kBytes, shape({-1})}, {"s_bytes", Dtype::kBytes, shape({-1})}};
  const std::int64_t n[] = {7, 8};
  std::string region(reinterpret_cast<const char*>(n), sizeof(n));
  const std::string strings("\1\0\0\0a\2\0\0\0bc", 11);
  region += strings;
  SlotResult r;
  put(r, 0, shape({2}), 0, 16);
  put(r, 1, shape({2}), 16, 11);
  put(r, 2, shape({2}), 16, 11);
  f.out.rows = 2;
  const auto bytes = std::as_bytes(std::span(region));
  EXPECT_EQ(print(f, r, bytes),
            R"({"predictions":[{"n":7,"s":"a","s_bytes":{"b64":"YQ=="}},{"n":8,"s":"bc","s_bytes":{"b64":"YmM="}}]})");
  f.out.form = V1Form::kColumns;
  EXPECT_EQ(print(f, r, bytes), R"({"outputs":{"n":[7,8],"s":["a","bc"],"s_bytes":[{"b64":"YQ=="},{"b64":"YmM="}]}})");
  --r.output_count;
  EXPECT_EQ(print(f, r, bytes), "instance_protocol_violation");
}

TEST(V1Print, ScalarsAndAbsurdEmptyTensors) {
  Fixture f = one(Dtype::kFp32, shape({}));
  f.out.form = V1Form::kColumns;
  const float v = 2;
  SlotResult r;
  put(r, 0, shape({}), 0, 4);
  EXPECT_EQ(print(f, r, std::as_bytes(std::span(&v, 1))), R"({"outputs":2.0})");
  r.output_count = 0;
  put(r, 0, shape({2, 0}), 0, 0);
  EXPECT_EQ(print(f, r, {}), R"({"outputs":[[],[]]})");
  r.output_count = 0;
  put(r, 0, shape({1LL << 62, 0}), 0, 0);
  EXPECT_EQ(print(f, r, {}), R"({"outputs":[]})");
  r.output_count = 0;
  put(r, 0, shape({1 << 10, 1 << 10, 0}), 0, 0);
  EXPECT_EQ(print(f, r, {}), R"({"outputs":[]})");
}

// Cuts and flips of good requests: no crash, and what is accepted is consistent.
TEST(V1Property, MutatedRequests) {
  const std::uint64_t seed = std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  const std::string good = R"({"instances":[{"f":1.5,"s":{"b64":"Zm9v"},"i":[1,-2]},{"f":NaN,"s":"a","i":[3,4]}]})";
  constexpr std::string_view kBytes = "[]{},:\"\\0-9.e tfnNI\xFF";
  Fixture f = three();
  for (int i = 0; i < 20'000; ++i) {
    std::string s = good;
    for (std::uint64_t n = rng() % 4; n > 0; --n) s[rng() % s.size()] = kBytes[rng() % kBytes.size()];
    if (rng() % 4 == 0) s.resize(rng() % s.size());
    if (f.parse(s).ok()) ASSERT_TRUE(check_request(f.rq, f.memory, f.sig).ok()) << s;
  }
}

}  // namespace
}  // namespace mayfly
