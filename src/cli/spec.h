// From what a user wrote (flags, label files, endpoint files) to the JSON `spec` of the API. Only what the user gave is
// in it; the server knows defaults and bounds and checks them. Pure but for reading the files that are named.
// Errors: kInvalidArgument with reason "file_unreadable", "invalid_labels", "invalid_image_input",
// "invalid_endpoint_file", "unknown_setting".
#pragma once
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly::cli {

using Json = nlohmann::json;

struct DeployFlags {
  std::optional<std::string> memory, cpu, tier_up, wake_on, idle, timeout, max_request, max_response, batch_delay;
  std::optional<std::uint32_t> threads, min, max, concurrency, queue, top, batch_max, parked;
  std::optional<std::uint32_t> cold_start_budget_ms;
  std::vector<std::string> provisioned;  // COUNT[@DAYS[@FROM-TO]], as "5@mon-fri@08:00-18:00"
  std::optional<std::string> labels_file, image_input, output_name, sample_file;
};
Result<Json> spec_from_flags(const DeployFlags& flags);

// {"0": "a", "1": "b"} | ["a", "b"] | one label per line. ImageNet's {"0": ["n01440764", "tench"]} gives its last word.
Result<Json> parse_labels(std::string_view text, std::string_view file_name);

// JSON or resize=224|WxH,crop=center|none,mean=127|r:g:b,scale=…,layout=nchw|nhwc → the object of input.image.
Result<Json> parse_image_input(std::string_view text);

struct EndpointFile {
  std::string name;
  std::string model;  // a path, made relative to the file's folder, or another source as it is
  Json spec = Json::object();
};
// All documents of an endpoint file; `path` resolves model and labels_file and is named in errors.
Result<std::vector<EndpointFile>> parse_endpoint_file(const std::string& text, const std::string& path);

Result<std::string> read_file(const std::string& path);  // "-": standard input; at most 1 GiB
// `; did you mean "x"?` for the nearest of names, or the list of them.
std::string suggestion(std::string_view wrong, std::initializer_list<std::string_view> names);

}  // namespace mayfly::cli
