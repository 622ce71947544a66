// A Triton model repository as a folder: DIR/MODEL/config.pbtxt and DIR/MODEL/NUMBER/model.onnx. What `mayfly import`
// makes of each model, before any server is asked. Reads files, changes nothing. Source: Triton,
// docs/user_guide/model_repository.md and model_configuration.md.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/pbtxt.h"
#include "cli/spec.h"

namespace mayfly::cli {

struct ImportTensor {
  std::string name, datatype;      // "FP32"; empty: not said
  std::vector<std::int64_t> dims;  // batch dimension included
};

struct ImportPlan {
  std::string name;  // of the folder, the model and the endpoint
  enum class Kind : std::uint8_t { kDeploy, kSkip, kFail } kind = Kind::kDeploy;
  std::string why;  // of kSkip and kFail
  std::string version, model;
  Json spec = Json::object();
  std::vector<ImportTensor> inputs, outputs;  // as config.pbtxt says
  std::vector<std::string> warnings;
};

// One plan for each sub-folder, by name. invalid "file_unreadable" if `dir` is no folder that can be read.
Result<std::vector<ImportPlan>> read_repository(const std::string& dir);

// Where the deployed signature (report of the deploy) differs from what config.pbtxt says; empty: nowhere.
std::vector<std::string> signature_differences(const ImportPlan& plan, const Json& report);

}  // namespace mayfly::cli
