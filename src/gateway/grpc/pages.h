// The answers that are not predictions: metadata, model configuration, statistics, the model repository, settings. Each
// appends its protocol buffers message to `out`. These make objects of libprotobuf; ModelInfer does not (oip_grpc.h).
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/control.h"
#include "gateway/grpc/call.h"

namespace mayfly::grpc {

// Which model a message names: fields 1 and 2 of those that have name and version, and of the repository's, where the
// name is field 2 and KServe alone has it as field 1. Views into the message. malformed_message; unsupported_parameter
// (kUnimplemented): a load or an unload with parameters that would have to change something.
struct ModelName {
  std::string_view name, version;
};
Result<ModelName> read_model_name(Rpc rpc, std::string_view message);

void print_flag(bool value, std::string& out);  // {live} and {ready}
enum class SharesMemory : std::uint8_t { kNo, kYes };
void print_server_metadata(std::string_view version, SharesMemory shares, std::string& out);
void print_model_metadata(const Endpoint& endpoint, const ServedVersion& served, std::string& out);
// The dimensions of a tensor in a model configuration. Where requests are joined, max_batch_size is above 0, and what
// that says of the first dimension is left out, as Triton has it.
std::span<const std::int64_t> config_dims(const Version& version, const Shape& shape);
void print_model_config(const Endpoint& endpoint, const ServedVersion& served, std::string& out);
// One row for each endpoint, of its live version: metrics are kept by endpoint.
void print_statistics(const std::vector<EndpointPtr>& endpoints, const Node& node, std::string& out);
// Every version that can be addressed. A model at zero instances is READY: it answers.
void print_repository_index(const std::vector<EndpointPtr>& endpoints, std::string& out);
void print_repository_done(std::string_view name, std::string& out);  // of load and unload
// The settings as they are. Errors: malformed_message; setting_is_fixed (kUnimplemented) for a message that changes
// any.
Status print_trace_settings(std::string_view message, std::string& out);
// Whether the message turns the line of each request (log_info) on or off. Errors: as above for what can't be changed,
// invalid_setting.
Result<std::optional<bool>> read_log_settings(std::string_view message);
void print_log_settings(bool log_info, std::string& out);

// The messages of system shared memory; the name stands alone but when a region is registered. malformed_message.
struct Region {
  std::string_view name, key;
  std::uint64_t offset = 0, bytes = 0;
};
Result<Region> read_region(std::string_view message);
void append_region(const Region& region, std::string& out);  // one of a status

enum class Serving : std::uint8_t { kServing = 1, kNotServing = 2, kServiceUnknown = 3 };
Result<std::string> read_health_service(std::string_view message);
void print_health(Serving status, std::string& out);

}  // namespace mayfly::grpc
