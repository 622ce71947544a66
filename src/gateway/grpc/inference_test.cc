// The hand-written inference codec against libprotobuf, for every data type: what generated code writes we read, and
// what we print it reads back.
#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "gateway/grpc/pages.h"
#include "inference.pb.h"
#include "tensor/bytes.h"
#include "worker_ipc/oip_grpc.h"

namespace mayfly {
namespace {

using ::inference::InferTensorContents;

bool has_typed_form(Dtype t) { return t != Dtype::kFp16 && t != Dtype::kBf16; }

std::string random_content(Dtype t, std::uint64_t count, std::mt19937_64& rng) {
  std::string s;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (t == Dtype::kBytes) {
      const auto n = static_cast<std::uint32_t>(rng() % 20);
      s.append(reinterpret_cast<const char*>(&n), 4);
      for (std::uint32_t j = 0; j < n; ++j) s += static_cast<char>(rng());
      continue;
    }
    const std::uint64_t x = t == Dtype::kBool ? rng() % 2 : rng() >> (rng() % 4 * 16);
    s.append(reinterpret_cast<const char*>(&x), dtype_size(t));
  }
  return s;
}

template <typename T, typename F>
void each(std::string_view content, F&& add) {
  for (std::size_t i = 0; i < content.size(); i += sizeof(T)) {
    T v;
    std::memcpy(&v, content.data() + i, sizeof(T));
    add(v);
  }
}

template <typename T>
void append(std::string& s, T v) {
  s.append(reinterpret_cast<const char*>(&v), sizeof(T));
}

void to_contents(Dtype t, std::string_view content, InferTensorContents& c) {
  switch (t) {
    case Dtype::kBool:
      return each<bool>(content, [&](auto v) { c.add_bool_contents(v); });
    case Dtype::kInt8:
      return each<std::int8_t>(content, [&](auto v) { c.add_int_contents(v); });
    case Dtype::kInt16:
      return each<std::int16_t>(content, [&](auto v) { c.add_int_contents(v); });
    case Dtype::kInt32:
      return each<std::int32_t>(content, [&](auto v) { c.add_int_contents(v); });
    case Dtype::kInt64:
      return each<std::int64_t>(content, [&](auto v) { c.add_int64_contents(v); });
    case Dtype::kUint8:
      return each<std::uint8_t>(content, [&](auto v) { c.add_uint_contents(v); });
    case Dtype::kUint16:
      return each<std::uint16_t>(content, [&](auto v) { c.add_uint_contents(v); });
    case Dtype::kUint32:
      return each<std::uint32_t>(content, [&](auto v) { c.add_uint_contents(v); });
    case Dtype::kUint64:
      return each<std::uint64_t>(content, [&](auto v) { c.add_uint64_contents(v); });
    case Dtype::kFp32:
      return each<float>(content, [&](auto v) { c.add_fp32_contents(v); });
    case Dtype::kFp64:
      return each<double>(content, [&](auto v) { c.add_fp64_contents(v); });
    default: {
      auto rest = std::as_bytes(std::span(content));
      while (const auto e = next_bytes_element(rest)) {
        c.add_bytes_contents(reinterpret_cast<const char*>(e->data()), e->size());
      }
    }
  }
}

std::string from_contents(Dtype t, const InferTensorContents& c) {
  std::string s;
  for (const bool v : c.bool_contents()) append(s, v);
  for (const auto v : c.int_contents()) {
    if (t == Dtype::kInt8) append(s, static_cast<std::int8_t>(v));
    if (t == Dtype::kInt16) append(s, static_cast<std::int16_t>(v));
    if (t == Dtype::kInt32) append(s, v);
  }
  for (const auto v : c.int64_contents()) append(s, v);
  for (const auto v : c.uint_contents()) {
    if (t == Dtype::kUint8) append(s, static_cast<std::uint8_t>(v));
    if (t == Dtype::kUint16) append(s, static_cast<std::uint16_t>(v));
    if (t == Dtype::kUint32) append(s, v);
  }
  for (const auto v : c.uint64_contents()) append(s, v);
  for (const auto v : c.fp32_contents()) append(s, v);
  for (const auto v : c.fp64_contents()) append(s, v);
  for (const auto& v : c.bytes_contents()) {
    append(s, static_cast<std::uint32_t>(v.size()));
    s += v;
  }
  return s;
}

void describe(const Shape& s, Dtype t, ::inference::ModelInferRequest::InferInputTensor& to) {
  to.set_name("x");
  to.set_datatype(std::string(dtype_name(t)));
  for (const std::int64_t d : s.view()) to.add_shape(d);
}

void round_trip(Dtype t, bool raw, std::mt19937_64& rng) {
  Shape s;
  s.rank = static_cast<std::uint8_t>(rng() % 4);
  for (std::size_t i = 0; i < s.rank; ++i) s.dims[i] = static_cast<std::int64_t>(rng() % 6);
  const std::string content = random_content(t, *element_count(s), rng);
  Signature sig;
  sig.inputs = sig.outputs = {{"x", t, s}};
  for (std::size_t i = 0; i < s.rank; ++i) sig.inputs[0].shape.dims[i] = -1;

  ::inference::ModelInferRequest request;
  request.set_model_name("m");
  request.set_id("id");
  describe(s, t, *request.add_inputs());
  if (raw)
    request.add_raw_input_contents(content);
  else
    to_contents(t, content, *request.mutable_inputs(0)->mutable_contents());
  const std::string message = request.SerializeAsString();
  GrpcInfer parts;
  ASSERT_TRUE(scan_infer_grpc(message, parts).ok());
  std::vector<std::byte> region(1 << 14);
  InputArea area(region);
  SlotRequest rq;
  InferRequest out;
  const Status parsed = parse_infer_grpc(parts, sig, rq, area, out);
  ASSERT_TRUE(parsed.ok()) << dtype_name(t) << ": " << parsed.error().message;
  ASSERT_TRUE(check_request(rq, region, sig).ok());
  ASSERT_EQ(out.binary_output_default, raw);
  ASSERT_EQ(std::string(reinterpret_cast<const char*>(region.data()) + rq.inputs[0].offset, rq.inputs[0].bytes),
            content);

  SlotResult result;
  result.output_count = 1;
  result.outputs[0] = rq.inputs[0];
  std::string printed;
  ASSERT_TRUE(print_infer_grpc(printed, "m", "3", out, sig, result, region).ok());
  ::inference::ModelInferResponse response;
  ASSERT_TRUE(response.ParseFromString(printed));
  ASSERT_EQ(response.model_name() + response.model_version() + response.id(), "m3id");
  ASSERT_EQ(response.outputs_size(), 1);
  ASSERT_EQ(response.outputs(0).datatype(), dtype_name(t));
  ASSERT_EQ(std::vector<std::int64_t>(response.outputs(0).shape().begin(), response.outputs(0).shape().end()),
            std::vector<std::int64_t>(s.view().begin(), s.view().end()));
  ASSERT_EQ(response.raw_output_contents_size(), raw || !has_typed_form(t) ? 1 : 0);
  ASSERT_EQ(response.raw_output_contents_size() == 1 ? response.raw_output_contents(0)
                                                     : from_contents(t, response.outputs(0).contents()),
            content)
      << dtype_name(t);
  ASSERT_TRUE(response.GetReflection()->GetUnknownFields(response).empty());
}

TEST(GrpcInference, EveryDtypeRoundTripsWithLibprotobuf) {
  const std::uint64_t seed = std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  for (std::uint8_t t = 1; t < kDtypeCount; ++t) {
    for (int i = 0; i < 300 && !testing::Test::HasFatalFailure(); ++i) {
      const auto dtype = static_cast<Dtype>(t);
      round_trip(dtype, i % 2 == 1 || !has_typed_form(dtype), rng);
    }
  }
}

TEST(GrpcInference, ParametersAsGeneratedCodeWritesThem) {
  ::inference::ModelInferRequest request;
  auto& parameters = *request.mutable_parameters();
  parameters["timeout"].set_int64_param(7);
  parameters["priority"].set_uint64_param(2);
  parameters["triton_enable_empty_final_response"].set_bool_param(true);
  parameters["text"].set_string_param("x");
  parameters["double"].set_double_param(1.5);
  const std::string message = request.SerializeAsString();
  GrpcInfer parts;
  ASSERT_TRUE(scan_infer_grpc(message, parts).ok());
  EXPECT_EQ(parts.timeout_us, 7U);
  EXPECT_EQ(parts.priority, 2U);
  EXPECT_TRUE(parts.enable_empty_final_response);
}

TEST(GrpcInference, TheFinalMarkIsAParameter) {
  std::string printed;
  ASSERT_TRUE(print_infer_grpc(printed, "m", "1", {}, {}, {}, {}, FinalMark::kFinal).ok());
  ::inference::ModelInferResponse response;
  ASSERT_TRUE(response.ParseFromString(printed));
  EXPECT_TRUE(response.parameters().at("triton_final_response").bool_param());
}

TEST(GrpcPages, NamesOfModels) {
  using grpc::read_model_name;
  using grpc::Rpc;
  ::inference::ModelMetadataRequest metadata;
  metadata.set_name("m");
  metadata.set_version("3");
  EXPECT_EQ(read_model_name(Rpc::kModelMetadata, "\x0a").error().reason, "malformed_message");
  const std::string message = metadata.SerializeAsString();  // the name is a view into it
  const auto name = read_model_name(Rpc::kModelMetadata, message);
  ASSERT_TRUE(name.ok());
  EXPECT_EQ(name->name, "m");
  EXPECT_EQ(name->version, "3");
}

TEST(GrpcPages, RepositoryNamesOfKServeAndOfTheOthers) {
  using grpc::read_model_name;
  using grpc::Rpc;
  std::string kserve = "\x0a\x01m", triton = "\x0a\x01r\x12\x01m";
  EXPECT_EQ(read_model_name(Rpc::kRepositoryLoad, kserve)->name, "m");
  EXPECT_EQ(read_model_name(Rpc::kRepositoryUnload, triton)->name, "m");
  ::inference::RepositoryModelLoadRequest load;
  load.set_model_name("m");
  (*load.mutable_parameters())["unload_dependents"].set_bool_param(false);
  const std::string harmless = load.SerializeAsString();
  EXPECT_EQ(read_model_name(Rpc::kRepositoryUnload, harmless)->name, "m");
  (*load.mutable_parameters())["config"].set_string_param("{}");
  const std::string config = load.SerializeAsString();
  EXPECT_EQ(read_model_name(Rpc::kRepositoryLoad, config).error().reason, "unsupported_parameter");
}

TEST(GrpcPages, Settings) {
  std::string out;
  EXPECT_TRUE(grpc::print_trace_settings("", out).ok());
  ::inference::TraceSettingResponse trace;
  ASSERT_TRUE(trace.ParseFromString(out));
  EXPECT_EQ(trace.settings().at("trace_level").value(0), "OFF");
  ::inference::TraceSettingRequest change;
  (*change.mutable_settings())["trace_rate"].add_value("1");
  EXPECT_EQ(grpc::print_trace_settings(change.SerializeAsString(), out).error().reason, "setting_is_fixed");
  ::inference::LogSettingsRequest log;
  (*log.mutable_settings())["log_info"].set_bool_param(false);
  EXPECT_EQ(*grpc::read_log_settings(log.SerializeAsString()), std::optional<bool>(false));
  EXPECT_EQ(*grpc::read_log_settings(""), std::nullopt);
  (*log.mutable_settings())["log_info"].set_string_param("off");
  EXPECT_EQ(grpc::read_log_settings(log.SerializeAsString()).error().reason, "invalid_setting");
  (*log.mutable_settings())["log_error"].set_bool_param(false);
  log.mutable_settings()->erase("log_info");
  EXPECT_EQ(grpc::read_log_settings(log.SerializeAsString()).error().reason, "setting_is_fixed");
  EXPECT_EQ(grpc::read_log_settings("\xFF").error().reason, "malformed_message");
}

TEST(GrpcPages, Regions) {
  ::inference::SystemSharedMemoryRegisterRequest request;
  request.set_name("r");
  request.set_key("/k");
  request.set_offset(1ULL << 40);
  request.set_byte_size(7);
  const std::string message = request.SerializeAsString();
  const auto region = grpc::read_region(message);
  ASSERT_TRUE(region.ok());
  EXPECT_EQ(region->name, "r");
  EXPECT_EQ(region->key, "/k");
  EXPECT_EQ(region->offset, 1ULL << 40);
  EXPECT_EQ(region->bytes, 7u);
  std::string out;
  grpc::append_region(*region, out);
  ::inference::SystemSharedMemoryStatusResponse status;
  ASSERT_TRUE(status.ParseFromString(out));
  ASSERT_EQ(status.regions().count("r"), 1u);
  EXPECT_EQ(status.regions().at("r").key(), "/k");
  EXPECT_EQ(status.regions().at("r").offset(), 1ULL << 40);
  EXPECT_EQ(status.regions().at("r").byte_size(), 7u);
  EXPECT_EQ(grpc::read_region("\x0a").error().reason, "malformed_message");
  EXPECT_EQ(grpc::read_region("\x08\x01").error().reason, "malformed_message");  // a name that is a number
}

}  // namespace
}  // namespace mayfly
