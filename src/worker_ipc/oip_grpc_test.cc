// The gRPC codec by hand-made messages: the order of fields, every error of the JSON codec's table, typed and raw
// answers. gateway/grpc/inference_test.cc holds it against libprotobuf for every data type.
#include "worker_ipc/oip_grpc.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "worker_ipc/proto_wire.h"

namespace mayfly {
namespace {

using namespace std::string_literals;

Shape shape(std::initializer_list<std::int64_t> dims) {
  Shape s;
  for (const auto d : dims) s.dims[s.rank++] = d;
  return s;
}

std::string field(std::uint32_t number, std::string_view bytes) {
  std::string s;
  append_bytes_field(s, number, bytes);
  return s;
}
std::string number(std::uint32_t field_number, std::uint64_t v) {
  std::string s;
  append_varint_field(s, field_number, v);
  return s;
}
template <typename T>
std::string raw(std::initializer_list<T> values) {
  std::string s(values.size() * sizeof(T), '\0');
  if (!s.empty()) std::memcpy(s.data(), values.begin(), s.size());
  return s;
}
std::string varints(std::initializer_list<std::uint64_t> values) {
  std::string s;
  for (const auto v : values) append_varint(s, v);
  return s;
}
std::string parameter(std::string_view key, std::string_view value) { return field(1, key) + field(2, value); }
// An input without its contents.
std::string described(std::string_view name, std::string_view datatype, std::initializer_list<std::uint64_t> dims) {
  return field(1, name) + field(2, datatype) + field(3, varints(dims));
}

struct Fixture {
  Signature sig;
  GrpcInfer parts;
  SlotRequest rq;
  InferRequest request;
  std::vector<std::byte> region = std::vector<std::byte>(1 << 12);

  Status parse(std::string_view message) {
    MAYFLY_TRY(scan_infer_grpc(message, parts));
    InputArea area(region);
    return parse_infer_grpc(parts, sig, rq, area, request);
  }
  std::string input(std::size_t i) const {
    return {reinterpret_cast<const char*>(region.data()) + rq.inputs[i].offset, rq.inputs[i].bytes};
  }
};

Fixture one_input(Dtype t, Shape s = shape({2})) {
  Fixture f;
  f.sig.inputs = {{"x", t, s}};
  f.sig.outputs = {{"y", Dtype::kFp32, shape({-1, 4})}, {"s", Dtype::kBytes, shape({-1})}};
  return f;
}

TEST(OipGrpcParse, FieldsInAnyOrderAndUnknownOnes) {
  Fixture f = one_input(Dtype::kFp32, shape({-1, 2}));
  const std::string values = raw<float>({1, 2.5, -300, 4});
  const std::string message =
      field(7, values) + field(6, field(2, parameter("classification", number(2, 2))) + field(1, "y")) +
      field(4, parameter("timeout", number(2, 5))) + field(4, parameter("priority", number(5, 3))) +
      field(4, parameter("triton_enable_empty_final_response", number(1, 1))) +
      field(4, parameter("foo", field(3, "bar"))) + field(3, "q") + field(99, "later") + number(98, 7) +
      field(5, number(3, 2) + number(3, 2) + field(2, "FP32") + field(44, "x") + field(1, "x")) + field(2, "3") +
      field(1, "m");
  const Status s = f.parse(message);
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(f.parts.model_name, "m");
  EXPECT_EQ(f.parts.model_version, "3");
  EXPECT_EQ(f.parts.timeout_us, 5U);
  EXPECT_EQ(f.parts.priority, 3U);
  EXPECT_TRUE(f.parts.enable_empty_final_response);
  EXPECT_EQ(f.input(0), values);
  EXPECT_EQ(f.request.id, "q");
  EXPECT_TRUE(f.request.binary_output_default);
  ASSERT_EQ(f.request.outputs.size(), 1U);
  EXPECT_EQ(f.request.outputs[0].classification, 2U);
  EXPECT_EQ(f.rq.output_mask, 1U);
  EXPECT_TRUE(check_request(f.rq, f.region, f.sig).ok());
}

TEST(OipGrpcParse, TypedPackedUnpackedAndInPieces) {
  Fixture f = one_input(Dtype::kInt16, shape({5}));
  const std::string contents = number(2, 1) + field(2, varints({2, static_cast<std::uint64_t>(-3)})) + number(2, 4);
  const Status s =
      f.parse(field(5, field(5, contents) + described("x", "INT16", {5}) + field(5, number(2, 0xFFFFFFFF))));
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(f.input(0), raw<std::int16_t>({1, 2, -3, 4, -1}));
  EXPECT_FALSE(f.request.binary_output_default);
}

TEST(OipGrpcParse, SeveralInputsAreAligned) {
  Fixture f;
  f.sig.inputs = {{"a", Dtype::kInt8, shape({3})}, {"b", Dtype::kBytes, shape({-1})}, {"c", Dtype::kBool, shape({})}};
  const std::string message =
      field(5, described("b", "BYTES", {2}) + field(5, field(8, "a\n") + field(8, ""))) +
      field(5, field(1, "c") + field(2, "BOOL") + field(5, number(1, 7))) +
      field(5, described("a", "INT8", {3}) + field(5, field(2, varints({static_cast<std::uint64_t>(-128), 0, 127}))));
  const Status s = f.parse(message);
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(f.input(0), "\2\0\0\0a\n\0\0\0\0"s);
  EXPECT_EQ(f.rq.inputs[1].offset, 64U);
  EXPECT_EQ(f.rq.inputs[2].offset, 128U);
  EXPECT_EQ(f.input(1), "\1");
  EXPECT_EQ(f.input(2), "\x80\0\x7F"s);
  EXPECT_TRUE(check_request(f.rq, f.region, f.sig).ok());
}

TEST(OipGrpcParse, EmptyTensors) {
  Fixture f = one_input(Dtype::kFp32, shape({-1}));
  EXPECT_TRUE(f.parse(field(5, described("x", "FP32", {0}))).ok());
  EXPECT_FALSE(f.request.binary_output_default);
  EXPECT_TRUE(f.parse(field(5, described("x", "FP32", {0}) + field(5, "")) + field(7, "")).ok());
  EXPECT_TRUE(f.request.binary_output_default);
  Fixture half = one_input(Dtype::kFp16, shape({-1}));
  EXPECT_TRUE(half.parse(field(5, described("x", "FP16", {0}) + field(5, ""))).ok());
  Fixture none;
  EXPECT_TRUE(none.parse("").ok());
  EXPECT_TRUE(none.request.binary_output_default);
}

struct ErrorCase {
  const char* reason;
  Dtype dtype;
  std::string message;
};

// The JSON codec's table (oip_test.cc), case by case where this form can say it.
TEST(OipGrpcParse, ErrorTable) {
  const std::string f32 = described("x", "FP32", {2}), i8 = described("x", "INT8", {2}),
                    str = described("x", "BYTES", {2}), bol = described("x", "BOOL", {2}),
                    half = described("x", "FP16", {2});
  const std::string two = raw<float>({1, 2}), good = field(5, f32) + field(7, two);
  const auto typed = [](const std::string& tensor, std::string_view contents) {
    return field(5, tensor + field(5, contents));
  };
  const auto classification = [](std::string_view output, std::uint64_t k) {
    return field(6, field(1, output) + field(2, parameter("classification", number(2, k))));
  };
  const std::uint64_t below = static_cast<std::uint64_t>(-129);
  const ErrorCase cases[] = {
      {"malformed_message", Dtype::kFp32, good + "\x2a"},
      {"malformed_message", Dtype::kFp32, good + "\x2a\x05x"},
      {"malformed_message", Dtype::kFp32, good + number(1, 4)},
      {"malformed_message", Dtype::kFp32, good + "\x0b"},
      {"malformed_message", Dtype::kFp32, good + std::string(11, '\xFF')},
      {"malformed_message", Dtype::kFp32, good + field(4, "\x0a\x7F")},
      {"malformed_message", Dtype::kFp32, good + field(6, "\x0a\x7F")},
      {"malformed_message", Dtype::kFp32, field(5, f32 + "\x2a") + field(7, two)},
      {"malformed_message", Dtype::kFp32, field(5, f32 + field(5, "\x32\x7F"))},
      {"malformed_message", Dtype::kFp32, typed(f32, field(6, "abc"))},
      {"malformed_message", Dtype::kInt8, typed(i8, field(2, "\x01\xFF"))},
      {"malformed_message", Dtype::kFp32, field(5, field(3, "\xFF") + f32) + field(7, two)},
      {"unknown_tensor", Dtype::kFp32, field(5, described("z", "FP32", {2})) + field(7, two)},
      {"unknown_tensor", Dtype::kFp32, good + field(6, field(1, "z"))},
      {"duplicate_tensor", Dtype::kFp32, good + field(5, f32) + field(7, two)},
      {"duplicate_tensor", Dtype::kFp32, good + field(6, field(1, "y")) + field(6, field(1, "y"))},
      {"datatype_mismatch", Dtype::kFp32, field(5, i8) + field(7, two)},
      {"datatype_mismatch", Dtype::kFp32, field(5, described("x", "FP99", {2})) + field(7, two)},
      {"tensor_shape_mismatch", Dtype::kFp32, field(5, described("x", "FP32", {3})) + field(7, raw<float>({1, 2, 3}))},
      {"tensor_shape_mismatch", Dtype::kFp32, field(5, described("x", "FP32", {0})) + field(7, "")},
      {"tensor_shape_mismatch", Dtype::kFp32, field(5, described("x", "FP32", {static_cast<std::uint64_t>(-2)}))},
      {"tensor_shape_mismatch", Dtype::kFp32, field(5, described("x", "FP32", {2, 1})) + field(7, two)},
      {"tensor_shape_mismatch", Dtype::kFp32, field(5, described("x", "FP32", {1, 1, 1, 1, 1, 1, 1, 1, 1}))},
      {"tensor_shape_mismatch", Dtype::kFp32, field(5, field(1, "x") + field(2, "FP32")) + field(7, two)},
      {"tensor_size_mismatch", Dtype::kFp32, typed(f32, field(6, raw<float>({1})))},
      {"tensor_size_mismatch", Dtype::kFp32, typed(f32, field(6, raw<float>({1, 2, 3})))},
      {"tensor_size_mismatch", Dtype::kFp32, typed(f32, "")},
      {"tensor_size_mismatch", Dtype::kInt8, typed(i8, field(2, varints({1, 2, 3})))},
      {"tensor_size_mismatch", Dtype::kBytes, typed(str, field(8, "a"))},
      {"tensor_size_mismatch", Dtype::kBytes, typed(str, field(8, "a") + field(8, "b") + field(8, ""))},
      {"value_out_of_range", Dtype::kInt8, typed(i8, field(2, varints({1, 128})))},
      {"value_out_of_range", Dtype::kInt8, typed(i8, field(2, varints({1, below})))},
      {"invalid_value", Dtype::kInt8, typed(i8, field(6, two))},
      {"invalid_value", Dtype::kFp32, typed(f32, field(6, two) + number(2, 1))},
      {"invalid_value", Dtype::kFp16, typed(half, field(6, two))},
      {"invalid_value", Dtype::kBool, typed(bol, field(4, varints({1, 1})))},
      {"invalid_value", Dtype::kBytes, typed(str, field(6, two))},
      {"invalid_value", Dtype::kFp32, good + field(3, std::string(1025, 'i'))},
      {"invalid_value", Dtype::kFp32, good + field(4, parameter("timeout", field(3, "5")))},
      {"invalid_value", Dtype::kFp32, good + field(4, parameter("timeout", number(2, static_cast<std::uint64_t>(-5))))},
      {"invalid_value", Dtype::kFp32, good + field(4, parameter("triton_enable_empty_final_response", number(2, 1)))},
      {"invalid_value", Dtype::kFp32, good + classification("y", 1001)},
      {"invalid_value", Dtype::kFp32, good + classification("s", 1)},
      {"invalid_value", Dtype::kFp32,
       good + field(6, field(1, "y") + field(2, parameter("classification", field(3, "2"))))},
      {"invalid_value", Dtype::kFp32, good + field(6, field(2, parameter("classification", number(2, 1))))},
      {"invalid_value", Dtype::kFp32, field(5, field(2, "FP32") + field(3, varints({2}))) + field(7, two)},
      {"invalid_value", Dtype::kFp32, field(5, field(1, "x") + field(3, varints({2}))) + field(7, two)},
      {"invalid_value", Dtype::kFp32, field(5, f32)},
      {"shared_memory_unsupported", Dtype::kFp32,
       field(5, f32 + field(4, parameter("shared_memory_region", field(3, "r"))))},
      {"shared_memory_unsupported", Dtype::kFp32,
       good + field(6, field(1, "y") + field(2, parameter("shared_memory_region", field(3, "r"))))},
      {"tensor_size_mismatch", Dtype::kFp32, field(5, f32) + field(7, "1234567")},
      {"tensor_size_mismatch", Dtype::kFp32, field(5, f32) + field(7, "123456789")},
      {"tensor_size_mismatch", Dtype::kFp32, good + field(7, "1")},
      {"invalid_value", Dtype::kFp32, typed(f32, field(6, two)) + field(7, two)},
      {"tensor_size_mismatch", Dtype::kBytes, field(5, str) + field(7, "12345678")},
      {"invalid_value", Dtype::kBool, field(5, bol) + field(7, "\1\2")},
      {"missing_tensor", Dtype::kFp32, ""},
  };
  int i = 0;
  for (const ErrorCase& c : cases) {
    Fixture f = one_input(c.dtype);
    const Status s = f.parse(c.message);
    ASSERT_FALSE(s.ok()) << "case " << i;
    EXPECT_EQ(s.error().reason, c.reason) << "case " << i << ": " << s.error().message;
    EXPECT_EQ(s.error().code, Code::kInvalidArgument) << "case " << i;
    ++i;
  }
}

TEST(OipGrpcParse, FewerRawEntriesThanInputs) {
  Fixture f;
  f.sig.inputs = {{"a", Dtype::kInt8, shape({1})}, {"b", Dtype::kInt8, shape({1})}};
  const std::string both = field(5, described("a", "INT8", {1})) + field(5, described("b", "INT8", {1}));
  EXPECT_EQ(f.parse(both + field(7, "1")).error().reason, "tensor_size_mismatch");
  EXPECT_TRUE(f.parse(both + field(7, "1") + field(7, "2")).ok());
}

TEST(OipGrpcParse, MoreEntriesThanAModelCanHave) {
  Fixture f = one_input(Dtype::kInt8, shape({1}));
  std::string inputs, outputs = field(5, described("x", "INT8", {1})) + field(7, "1");
  for (int i = 0; i < 100; ++i) {
    inputs += field(5, described("x", "INT8", {1})) + field(7, "1");
    outputs += field(6, field(1, "y"));
  }
  EXPECT_EQ(f.parse(inputs).error().reason, "duplicate_tensor");
  EXPECT_EQ(f.parse(outputs).error().reason, "duplicate_tensor");
}

TEST(OipGrpcParse, TooLargeForTheRegion) {
  Fixture f = one_input(Dtype::kFp32, shape({-1}));
  f.region.resize(64);
  const auto floats = [](std::uint64_t n, std::uint64_t said) {
    return field(5, described("x", "FP32", {said})) + field(7, std::string(n * 4, '\0'));
  };
  EXPECT_TRUE(f.parse(floats(16, 16)).ok());
  EXPECT_EQ(f.parse(floats(17, 17)).error().reason, "payload_too_large");
  EXPECT_EQ(f.parse(floats(0, INT64_MAX)).error().reason, "payload_too_large");
  Fixture s = one_input(Dtype::kBytes, shape({1}));
  s.region.resize(64);
  const auto text = [](std::size_t n) {
    return field(5, described("x", "BYTES", {1}) + field(5, field(8, std::string(n, 'a'))));
  };
  EXPECT_TRUE(s.parse(text(60)).ok());
  EXPECT_EQ(s.parse(text(61)).error().reason, "payload_too_large");
}

// Cuts and flips of a good request: no crash, and what is accepted is consistent.
TEST(OipGrpcProperty, MutatedRequests) {
  const std::uint64_t seed = std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  const std::string good = field(1, "m") +
                           field(5, described("x", "FP32", {2}) + field(5, field(6, raw<float>({1, 2})))) +
                           field(6, field(1, "y") + field(2, parameter("classification", number(2, 2))));
  Fixture f = one_input(Dtype::kFp32, shape({-1}));
  for (int i = 0; i < 20'000; ++i) {
    std::string s = good;
    for (std::uint64_t n = rng() % 4; n > 0; --n)
      s[rng() % s.size()] = static_cast<char>(rng() % 2 == 0 ? rng() % 16 : rng());
    if (rng() % 4 == 0) s.resize(rng() % s.size());
    if (f.parse(s).ok()) ASSERT_TRUE(check_request(f.rq, f.region, f.sig).ok()) << i;
  }
}

void put_output(SlotResult& r, std::uint32_t index, const TensorSpec& spec, const Shape& s, std::uint64_t bytes) {
  TensorRef& t = r.outputs[r.output_count++];
  t.index = index;
  t.dtype = static_cast<std::uint8_t>(spec.dtype);
  t.rank = s.rank;
  std::memcpy(t.dims, s.dims.data(), sizeof(t.dims));
  t.bytes = bytes;
}

TEST(OipGrpcPrint, RawInTheOrderThatWasAsked) {
  Fixture f;
  f.sig.outputs = {{"y", Dtype::kFp32, shape({-1})}, {"b", Dtype::kBool, shape({1})}};
  const float v[] = {1, 2};
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], shape({2}), sizeof(v));
  put_output(r, 1, f.sig.outputs[1], shape({}), 1);
  InferRequest ask;
  ask.binary_output_default = true;
  ask.id = "7";
  ask.outputs = {{1, {}, 0}, {0, {}, 0}};
  std::string out = "before";
  ASSERT_TRUE(print_infer_grpc(out, "m", "3", ask, f.sig, r, std::as_bytes(std::span(v))).ok());
  EXPECT_EQ(out, "before" + field(1, "m") + field(2, "3") + field(3, "7") + field(5, field(1, "b") + field(2, "BOOL")) +
                     field(5, described("y", "FP32", {2})) + field(6, "\0"s) + field(6, raw<float>({1, 2})));
}

TEST(OipGrpcPrint, AnOutputWithoutTypedFormMakesTheAnswerRaw) {
  Fixture f;
  f.sig.outputs = {{"y", Dtype::kFp16, shape({-1})}, {"i", Dtype::kInt8, shape({1})}};
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], shape({1}), 2);
  put_output(r, 1, f.sig.outputs[1], shape({1}), 1);
  const std::string region = "ab";
  std::string out;
  ASSERT_TRUE(print_infer_grpc(out, "m", "3", {}, f.sig, r, std::as_bytes(std::span(region))).ok());
  EXPECT_EQ(out, field(1, "m") + field(2, "3") + field(5, described("y", "FP16", {1})) +
                     field(5, described("i", "INT8", {1})) + field(6, "ab") + field(6, "a"));
}

TEST(OipGrpcPrint, ClassificationAndTheFinalMark) {
  Fixture f;
  f.sig.outputs = {{"y", Dtype::kFp32, shape({-1, 3})}};
  const float v[] = {0.25F, 0.5F, 0.25F};
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], shape({1, 3}), sizeof(v));
  InferRequest ask;
  ask.binary_output_default = true;
  ask.outputs = {{0, {}, 2}};
  std::string out;
  ASSERT_TRUE(print_infer_grpc(out, "m", "3", ask, f.sig, r, std::as_bytes(std::span(v)), FinalMark::kFinal).ok());
  EXPECT_EQ(out, field(1, "m") + field(2, "3") + field(4, parameter("triton_final_response", number(1, 1))) +
                     field(5, described("y", "BYTES", {1, 2})) +
                     field(6,
                           "\x0a\0\0\0"
                           "0.500000:1\x0a\0\0\0"
                           "0.250000:0"s));
}

TEST(OipGrpcPrint, StringsChangedAfterTheCheckStayInBounds) {
  Fixture f;
  f.sig.outputs = {{"s", Dtype::kBytes, shape({-1})}};
  const std::string region("\1\0\0\0a\xFF\xFF\xFF\x7F", 9);
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], shape({2}), region.size());
  std::string out;
  ASSERT_TRUE(print_infer_grpc(out, "m", "3", {}, f.sig, r, std::as_bytes(std::span(region))).ok());
  EXPECT_NE(out.find(field(8, "a")), std::string::npos);
}

TEST(OipGrpcPrint, RefusesWhatNoReaderTakes) {
  Fixture f;
  f.sig.outputs = {{"y", Dtype::kInt8, shape({-1})}};
  SlotResult r;
  put_output(r, 0, f.sig.outputs[0], shape({300'000'000}), 0);
  std::string out;
  const Status s = print_infer_grpc(out, "m", "3", {}, f.sig, r, {});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().reason, "response_too_large");
}

// One region "r" of 64 bytes.
struct OneRegion final : SharedMemoryAccess {
  Status check(std::string_view name, std::uint64_t offset, std::uint64_t bytes) const override {
    if (name != "r") return make_error(Code::kNotFound, "region_not_found", "none");
    return bytes <= memory.size() && offset <= memory.size() - bytes ? Status(Ok{})
                                                                     : invalid("region_too_small", "small");
  }
  Status read(std::string_view name, std::uint64_t offset, std::span<std::byte> to) const override {
    MAYFLY_TRY(check(name, offset, to.size()));
    std::memcpy(to.data(), memory.data() + offset, to.size());
    return Ok{};
  }
  Status write(std::string_view name, std::uint64_t offset, std::span<const std::byte> from) const override {
    MAYFLY_TRY(check(name, offset, from.size()));
    std::memcpy(memory.data() + offset, from.data(), from.size());
    return Ok{};
  }
  mutable std::array<std::byte, 64> memory{};
};

std::string place(std::string_view region, std::uint64_t bytes, std::uint64_t offset, std::uint32_t map) {
  return field(map, parameter("shared_memory_region", field(3, region))) +
         field(map, parameter("shared_memory_byte_size", number(2, bytes))) +
         field(map, parameter("shared_memory_offset", number(2, offset)));
}

// Inputs in shared memory take no entry of raw_input_contents; what a place says is checked against its region.
TEST(OipGrpc, SharedMemory) {
  OneRegion shared;
  Fixture f;
  f.request.shared_memory = &shared;
  for (const char* name : {"a", "b"}) f.sig.inputs.push_back({name, Dtype::kFp32, shape({-1})});
  f.sig.outputs.push_back({"y", Dtype::kFp32, shape({-1})});
  const std::string values = raw<float>({1.5F, -2.0F});
  std::memcpy(shared.memory.data() + 8, values.data(), values.size());
  const std::string a = described("a", "FP32", {2}), b = described("b", "FP32", {1});
  const std::string one = raw<float>({7.0F});
  const auto with = [&](const std::string& in_a, const std::string& out) {
    return field(5, a + in_a) + field(5, b) + (out.empty() ? "" : field(6, field(1, "y") + out)) + field(7, one);
  };
  ASSERT_TRUE(f.parse(with(place("r", 8, 8, 4), place("r", 8, 32, 2))).ok());
  EXPECT_EQ(std::memcmp(f.region.data() + f.rq.inputs[0].offset, values.data(), 8), 0);
  EXPECT_EQ(std::memcmp(f.region.data() + f.rq.inputs[1].offset, one.data(), 4), 0);
  SlotResult result;
  result.output_count = 1;
  result.outputs[0].rank = 1;
  result.outputs[0].dims[0] = 2;
  result.outputs[0].bytes = 8;
  result.outputs[0].dtype = static_cast<std::uint8_t>(Dtype::kFp32);
  std::memcpy(f.region.data(), values.data(), 8);
  std::string printed;
  ASSERT_TRUE(print_infer_grpc(printed, "m", "1", f.request, f.sig, result, f.region).ok());
  EXPECT_EQ(std::memcmp(shared.memory.data() + 32, values.data(), 8), 0);
  EXPECT_NE(printed.find(place("r", 8, 32, 4)), std::string::npos);
  EXPECT_TRUE(printed.ends_with("\x32\0"s));  // its entry of raw_output_contents is empty
  f.request.outputs[0].shared.bytes = 4;
  EXPECT_EQ(print_infer_grpc(printed, "m", "1", f.request, f.sig, result, f.region).error().reason, "region_too_small");
  const std::pair<const char*, std::string> lies[] = {
      {"region_not_found", with(place("q", 8, 8, 4), "")},
      {"region_too_small", with(place("r", 8, 60, 4), "")},
      {"region_too_small", with(place("r", 8, (1ULL << 63) - 1, 4), "")},
      {"tensor_size_mismatch", with(place("r", 4, 0, 4), "")},
      {"tensor_size_mismatch", with(place("r", 8, 0, 4), "") + field(7, one)},
      {"invalid_value", with(place("r", 8, 0, 4) + field(5, field(6, values)), "")},
      {"invalid_value", with(place("r", static_cast<std::uint64_t>(-8), 0, 4), "")},
      {"invalid_value", with(field(4, parameter("shared_memory_region", number(2, 1))), "")},
      {"region_not_found", with(place("r", 8, 0, 4), place("q", 8, 0, 2))},
      {"region_too_small", with(place("r", 8, 0, 4), place("r", 65, 0, 2))},
  };
  for (const auto& [reason, message] : lies) {
    const Status st = f.parse(message);
    ASSERT_FALSE(st.ok()) << reason;
    EXPECT_EQ(st.error().reason, reason) << st.error().message;
  }
}

}  // namespace
}  // namespace mayfly
