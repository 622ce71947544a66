// What an owner may set on an endpoint. One table (kSettings in settings.cc) declares each: name, unit, default,
// bounds, help; JSON parsing, JSON printing and the reference page come from it. Unknown keys are errors that suggest
// the nearest name.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "policy/hold.h"
#include "worker_ipc/arena.h"

namespace mayfly {

struct ImageInput {  // input: {image: {resize: [224,224], crop: center|none|0.875, mean: 127|[r,g,b], scale: …, layout:
                     // nchw|nhwc}}
  std::uint32_t width = 224, height = 224;
  std::uint32_t crop_permille = 1000;  // centred square, of the shorter side; 0: stretch
  float mean[3] = {0, 0, 0};
  float scale[3] = {1, 1, 1};  // value = (pixel - mean) * scale
  bool nhwc = false;
};
struct ClassesOutput {  // output: {classes: {labels: [..], top: 5, output: "probabilities"}}
  std::uint32_t top = 5;
  std::string output;  // empty: the model's last floating-point output
  std::vector<std::string> labels;
};

struct EndpointSettings {
  std::uint64_t memory_bytes = 512ULL << 20;         // memory: "512Mi" (Ki Mi Gi or plain bytes), 64Mi … 64Gi
  std::uint32_t cpu_milli = 1000;                    // cpu: 1 | "500m"; 100m … 64
  std::uint32_t threads = 0;                         // threads: 0 (as many as cpu) … 64, at most cpu rounded up
  bool tier_up = true;                               // tier_up: auto | off
  std::uint32_t min_instances = 0;                   // min: 0 … 1000
  std::uint32_t max_instances = 10;                  // max: 1 … 1000
  std::uint32_t parked = 0;                          // parked: 0 … 1000 instances, ready and stopped
  std::vector<policy::ProvisionWindow> provisioned;  // provisioned: N, or windows of the week (provision.h)
  bool wake_on_connection = false;                   // wake_on: request | connection
  std::uint64_t cold_start_budget_ms = 0;            // 0 (none) … 60000
  std::uint32_t concurrency = 8;                     // requests handed to one instance at once: 1 … 64
  std::uint64_t idle_ms = 10'000;                    // idle: "10s" (ms s m h), 0 … 24h
  std::uint64_t timeout_ms = 30'000;                 // timeout: 1ms … 1h
  std::uint32_t queue = 1024;                        // waiting requests per version: 0 … 100000
  std::uint32_t batch_max = 0;                       // batch.max: 0 (auto) … 1024 rows of several requests in one run
  std::uint64_t batch_delay_us = 0;                  // batch.delay: 0 … 10s, that an idle instance waits for more rows
  std::uint64_t max_request_bytes = 32ULL << 20;     // max_request: 1Ki … 1Gi (tensors of one request)
  std::uint64_t max_response_bytes = 32ULL << 20;    // max_response
  std::string sample_json;  // sample: {inputs: […]}, a request to try each new version with; empty: zeros
  std::optional<ImageInput> image;
  std::optional<ClassesOutput> classes;
};

// `json` is the `spec` object of an endpoint file. Errors: kInvalidArgument "invalid_setting" / "unknown_setting",
// naming the key.
Result<EndpointSettings> settings_from_json(std::string_view json);
std::string settings_to_json(const EndpointSettings& s);  // canonical; settings_from_json(settings_to_json(s)) == s
// The table of all settings for the documentation: name, unit, default, bounds, meaning.
std::string settings_reference_markdown();
// [a-z0-9]([a-z0-9-_.]*[a-z0-9])?, at most 63 characters; "invalid_name" otherwise.
Status check_endpoint_name(std::string_view name);
Result<std::uint64_t> parse_bytes(std::string_view text);        // "512Mi"
Result<std::uint64_t> parse_duration_ms(std::string_view text);  // "10s"

}  // namespace mayfly
