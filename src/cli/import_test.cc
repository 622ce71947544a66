// What `mayfly import` reads of a Triton model repository: the text format, and the plan made of each folder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "cli/pbtxt.h"
#include "cli/repository.h"

namespace mayfly::cli {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Pbtxt, EveryFormOfTheText) {
  const auto top = parse_pbtxt(R"(
# a comment
name: "a\"b" 'c'   # strings side by side are one
max_batch_size: 8, backend: 'onnxruntime';
input [ { name: "x" dims: [ -1, 4 ] }, { name: "y" dims: 2 dims: 3 } ]
output: < data_type: TYPE_FP32 >
dynamic_batching { }
empty: []
)");
  ASSERT_TRUE(top.ok()) << top.error().message;
  EXPECT_EQ(top->value("name"), "a\"bc");
  EXPECT_EQ(pb_number(top->value("max_batch_size")), 8);
  EXPECT_EQ(top->value("backend"), "onnxruntime");
  const auto inputs = top->all("input");
  ASSERT_EQ(inputs.size(), 2u);
  EXPECT_EQ(inputs[0]->all("dims").size(), 2u);
  EXPECT_EQ(inputs[0]->all("dims")[0]->text, "-1");
  EXPECT_EQ(inputs[1]->all("dims")[1]->text, "3");
  EXPECT_EQ(top->find("output")->value("data_type"), "TYPE_FP32");
  EXPECT_TRUE(top->find("dynamic_batching")->message);
  EXPECT_EQ(top->find("empty"), nullptr);
  EXPECT_EQ(inputs[1]->line, 5);
}

TEST(Pbtxt, ErrorsNameTheLine) {
  for (std::string_view bad :
       {"a: {", "\na: \"x", "a", "a b", ": 1", "a: [1 2]", "a: [1", "}", "a: \"x\ny\"", "a: ]", "a: {]}"}) {
    const auto r = parse_pbtxt(bad);
    ASSERT_FALSE(r.ok()) << bad;
    EXPECT_THAT(r.error().message, HasSubstr("line ")) << bad;
  }
  std::string deep;
  for (int i = 0; i < kMaxPbtxtDepth + 2; ++i) deep += "a {";
  EXPECT_THAT(parse_pbtxt(deep).error().message, HasSubstr("nested deeper"));
  EXPECT_FALSE(parse_pbtxt(std::string(kMaxPbtxtBytes + 1, ' ')).ok());
  EXPECT_FALSE(parse_pbtxt(std::string_view("a: 1\0", 5)).ok());
  EXPECT_TRUE(parse_pbtxt("").ok());
}

class Repository : public testing::Test {
 protected:
  Repository() {
    std::string name = (std::filesystem::temp_directory_path() / "mayfly-import-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
  }
  ~Repository() override { std::filesystem::remove_all(root_); }
  void put(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  ImportPlan plan() const {
    auto plans = read_repository(root_);
    EXPECT_TRUE(plans.ok());
    EXPECT_EQ(plans->size(), 1u);
    return plans->at(0);
  }
  std::filesystem::path root_;
};

TEST_F(Repository, TheHighestVersionWithoutAConfiguration) {
  put("m/1/model.onnx", "");
  put("m/10/model.onnx", "");
  put("m/9/model.onnx", "");
  put("m/notes/model.onnx", "");
  const ImportPlan p = plan();
  EXPECT_EQ(p.kind, ImportPlan::Kind::kDeploy);
  EXPECT_EQ(p.version, "10");
  EXPECT_EQ(p.model, root_ / "m/10/model.onnx");
  EXPECT_EQ(p.spec, Json::object());
  EXPECT_THAT(p.warnings, IsEmpty());
}

TEST_F(Repository, ConfigurationBecomesSettings) {
  put("m/1/net.onnx", "");
  put("m/labels.txt", "cat\ndog\n");
  put("m/config.pbtxt", R"(
name: "m" backend: "onnxruntime" default_model_filename: "net.onnx" max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]
output [ { name: "p" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]
instance_group [ { count: 2 kind: KIND_CPU }, { count: 3 } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 150
  default_queue_policy { max_queue_size: 64 default_timeout_microseconds: 500000 } preserve_ordering: true }
optimization { graph { level: 1 } })");
  const ImportPlan p = plan();
  EXPECT_EQ(p.kind, ImportPlan::Kind::kDeploy) << p.why;
  EXPECT_EQ(p.spec, Json::parse(R"({"max":5,"queue":64,"timeout":"500ms","batch":{"max":8,"delay":"150us"},
                                    "output":{"classes":{"labels":["cat","dog"],"output":"p"}}})"));
  EXPECT_THAT(p.warnings, ElementsAre("dynamic_batching.preserve_ordering is not used", "optimization is not used"));
  ASSERT_EQ(p.inputs.size(), 1u);
  EXPECT_EQ(p.inputs[0].dims, (std::vector<std::int64_t>{-1, 3, -1}));

  const auto report = [](const char* shape, const char* type) {
    return Json::parse(fmt::format(R"({{"inputs":[{{"name":"x","datatype":"{}","shape":{}}}],
                                       "outputs":[{{"name":"p","datatype":"FP32","shape":[-1,2]}}]}})",
                                   type, shape));
  };
  EXPECT_THAT(signature_differences(p, report("[-1,3,8]", "FP32")), IsEmpty());
  EXPECT_THAT(signature_differences(p, report("[-1,4,8]", "FP32")), ElementsAre(HasSubstr("shape [-1,4,8]")));
  EXPECT_THAT(signature_differences(p, report("[3,8]", "FP32")), ElementsAre(HasSubstr("shape [3,8]")));
  EXPECT_THAT(signature_differences(p, report("[-1,3,8]", "INT8")), ElementsAre(HasSubstr("is INT8 in the model")));
  EXPECT_THAT(signature_differences(p, Json::object()),
              ElementsAre(HasSubstr("no input \"x\""), HasSubstr("no output \"p\"")));
}

TEST_F(Repository, WhatItCanNotServeIsSkipped) {
  const std::pair<const char*, const char*> cases[] = {
      {"backend: \"python\"", "python"},
      {"platform: \"tensorrt_plan\"", "tensorrt_plan"},
      {"platform: \"onnxruntime_onnx\" ensemble_scheduling { }", "ensembles"},
      {"sequence_batching { }", "state between requests"},
      {"version_policy: { specific: { versions: [ 7 ] } }", "none of the versions"},
  };
  for (const auto& [config, why] : cases) {
    put("m/1/model.onnx", "");
    put("m/config.pbtxt", config);
    EXPECT_EQ(plan().kind, ImportPlan::Kind::kSkip) << config;
    EXPECT_THAT(plan().why, HasSubstr(why)) << config;
  }
}

TEST_F(Repository, WhatIsWrongFails) {
  put("m/1/model.onnx", "");
  for (const char* config : {"name: \"other\"", "name: {", "default_model_filename: \"../x\"",
                             "backend: \"onnxruntime\" default_model_filename: \"x.onnx\""}) {
    put("m/config.pbtxt", config);
    EXPECT_EQ(plan().kind, ImportPlan::Kind::kFail) << config;
    EXPECT_FALSE(plan().why.empty());
  }
}

TEST_F(Repository, SpecificVersionsAndReshape) {
  put("m/1/model.onnx", "");
  put("m/2/model.onnx", "");
  put("m/3/model.onnx", "");
  put("m/config.pbtxt", R"(version_policy: { specific: { versions: [ 1, 2 ] } }
    input { name: "x" data_type: TYPE_STRING dims: [ 4 ] reshape: { shape: [ 2, 2 ] } } instance_group { kind: KIND_GPU })");
  const ImportPlan p = plan();
  EXPECT_EQ(p.version, "2");
  EXPECT_EQ(p.inputs[0].datatype, "BYTES");
  EXPECT_THAT(p.inputs[0].dims, IsEmpty());
  EXPECT_EQ(p.spec["max"], 1);
  EXPECT_THAT(p.warnings, Contains(HasSubstr("reshape of \"x\"")));
  EXPECT_THAT(p.warnings, Contains(HasSubstr("GPU")));
  EXPECT_THAT(p.warnings, Contains(HasSubstr("only version 2")));
}

TEST(RepositoryFolder, ThatIsNoneIsAnError) {
  EXPECT_EQ(read_repository("/no/such/folder").error().reason, "file_unreadable");
}

}  // namespace
}  // namespace mayfly::cli
