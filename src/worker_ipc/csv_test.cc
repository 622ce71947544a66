#include "worker_ipc/csv.h"

#include <gtest/gtest.h>

#include <cstring>

#include "worker_ipc/generate.h"

namespace mayfly {
namespace {

struct Fixture {
  Signature sig;
  SlotRequest rq;
  V1Request out;
  std::string id;
  alignas(64) std::byte memory[1024];

  explicit Fixture(std::string_view json) : sig(*signature_from_json(json)) {}
  std::string csv(std::string_view body) {
    InputArea area(memory);
    const Status s = parse_csv(body, sig, rq, area, out);
    return s.ok() ? "ok" : s.error().reason;
  }
  std::string generate(std::string_view body) {
    InputArea area(memory);
    const Status s = parse_generate(body, sig, rq, area, id);
    return s.ok() ? "ok" : s.error().reason;
  }
  std::vector<float> floats(std::uint32_t i = 0) const {
    std::vector<float> v(rq.inputs[i].bytes / 4);
    if (!v.empty()) std::memcpy(v.data(), memory + rq.inputs[i].offset, rq.inputs[i].bytes);
    return v;
  }
  std::vector<std::int64_t> dims(std::uint32_t i = 0) const {
    return {rq.inputs[i].dims, rq.inputs[i].dims + rq.inputs[i].rank};
  }
};

constexpr std::string_view kRows = R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],"outputs":[]})";

TEST(Csv, LinesAreRows) {
  Fixture f(kRows);
  for (std::string_view body : {"1,2\n3,4", "1,2\r\n3,4\r\n", "1 , 2\n\n 3,4e0\n  \n"}) {
    ASSERT_EQ(f.csv(body), "ok") << body;
    EXPECT_EQ(f.floats(), (std::vector<float>{1, 2, 3, 4}));
    EXPECT_EQ(f.dims(), (std::vector<std::int64_t>{2, 2}));
    EXPECT_EQ(f.out.rows, 2u);
  }
  Fixture column(R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1]}],"outputs":[]})");
  ASSERT_EQ(column.csv("1\n2\n"), "ok");
  EXPECT_EQ(column.dims(), (std::vector<std::int64_t>{2}));
}

TEST(Csv, WhatItRefuses) {
  Fixture f(kRows);
  EXPECT_EQ(f.csv(""), "missing_tensor");
  EXPECT_EQ(f.csv("\n\n"), "missing_tensor");
  EXPECT_EQ(f.csv("1,2\n3"), "tensor_shape_mismatch");
  EXPECT_EQ(f.csv("1,2,3"), "tensor_shape_mismatch");
  EXPECT_EQ(f.csv("1,,2"), "malformed_json");
  EXPECT_EQ(f.csv("a,b"), "invalid_value");
  for (std::string_view body : {"1,2],[3,4", "[1,2]", "\"1\",2", "{},1"}) EXPECT_EQ(f.csv(body), "invalid_csv") << body;
  EXPECT_EQ(f.csv(std::string(4000, '1')), "value_out_of_range");
  EXPECT_EQ(Fixture(R"({"inputs":[{"name":"x","datatype":"BYTES","shape":[-1]}],"outputs":[]})").csv("a"),
            "invalid_csv");
  EXPECT_EQ(Fixture(R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2,2]}],"outputs":[]})").csv("1"),
            "invalid_csv");
}

TEST(Csv, PrintsAllOutputsOfARow) {
  Fixture f(
      R"({"inputs":[],"outputs":[{"name":"a","datatype":"INT8","shape":[-1]},{"name":"s","datatype":"BYTES","shape":[-1,2]}]})");
  const std::string region("\1\2\1\0\0\0x\2\0\0\0\"y\0\0\0\0\1\0\0\0z", 2 + 5 + 6 + 4 + 5);
  SlotResult r;
  r.output_count = 2;
  r.outputs[0] = {0, 0, 1, 0, {2}, 0, 2};
  r.outputs[1] = {1, 0, 2, 0, {2, 2}, 2, region.size() - 2};
  std::string out;
  ASSERT_TRUE(print_csv(out, 2, f.sig, r, std::as_bytes(std::span(region))).ok());
  EXPECT_EQ(out, "1,\"x\",\"\"\"y\"\n2,\"\",\"z\"\n");
  EXPECT_EQ(print_csv(out, 3, f.sig, r, std::as_bytes(std::span(region))).error().reason, "not_batched");
  r.output_count = 1;
  EXPECT_FALSE(print_csv(out, 2, f.sig, r, std::as_bytes(std::span(region))).ok());
}

TEST(Generate, ValuesFillTheFreeDimensions) {
  Fixture f(
      R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]},{"name":"n","datatype":"INT8","shape":[]}],"outputs":[]})");
  ASSERT_EQ(f.generate(R"({"n":1,"x":[1,2,3,4]})"), "ok") << "the last free dimension takes what there is";
  EXPECT_EQ(f.dims(1), (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(f.generate(R"({"n":1,"x":[1,2,3]})"), "tensor_shape_mismatch");
  ASSERT_EQ(f.generate(R"({"n":1,"parameters":{"x":9},"id":"i","x":[1,2]})"), "ok");
  EXPECT_EQ(f.id, "i");
  EXPECT_EQ(f.dims(1), (std::vector<std::int64_t>{1, 2}));
  ASSERT_EQ(f.generate(R"({"n":1,"x":[[1,2],[3,4]]})"), "ok");
  EXPECT_EQ(f.floats(1), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(f.generate(R"({"n":1})"), "missing_tensor");
  EXPECT_EQ(f.generate(R"({"n":1,"n":2,"x":[1,2]})"), "duplicate_tensor");
  EXPECT_EQ(f.generate(R"({"n":[1,2],"x":[1,2]})"), "tensor_shape_mismatch");
  EXPECT_EQ(f.generate(R"({"n":1 2,"x":[1,2]})"), "malformed_json");
  EXPECT_EQ(f.generate(""), "malformed_json");
  EXPECT_EQ(f.generate("[1]"), "invalid_value");
}

TEST(Generate, OneElementIsAValueAndMoreAreAnArray) {
  Fixture f(
      R"({"inputs":[],"outputs":[{"name":"a","datatype":"INT8","shape":[1,1]},{"name":"b","datatype":"INT8","shape":[-1]}]})");
  const std::byte region[] = {std::byte{7}, std::byte{1}, std::byte{2}};
  SlotResult r;
  r.output_count = 2;
  r.outputs[0] = {0, 0, 2, 0, {1, 1}, 0, 1};
  r.outputs[1] = {1, 0, 1, 0, {2}, 1, 2};
  std::string out;
  ASSERT_TRUE(print_generate_response(out, "m", "1", "", f.sig, r, region).ok());
  EXPECT_EQ(out, R"({"model_name":"m","model_version":"1","a":7,"b":[1,2]})");
  r.output_count = 1;
  EXPECT_FALSE(print_generate_response(out, "m", "1", "", f.sig, r, region).ok());
}

}  // namespace
}  // namespace mayfly
