// The setting `provisioned`: a number of warm instances, or a list of windows of the week, in UTC, each with its own:
//   3
//   [{count: 5, days: mon-fri, from: "08:00", to: "18:00"}, {count: 1, days: "sat,sun"}]
// days: names of three letters, ranges, separated by commas; left out, every day. from and to: left out, the whole day;
// a window whose `to` is not after its `from` ends on the next day. Pure.
#pragma once
#include <vector>

#include "base/result.h"
#include "policy/hold.h"
#include "tensor/json_parse.h"

namespace mayfly {

inline constexpr std::size_t kMaxProvisionWindows = 100;
inline constexpr std::uint32_t kMaxProvisioned = 1000;

// Errors: kInvalidArgument "invalid_setting".
Result<std::vector<policy::ProvisionWindow>> provision_from_json(const nlohmann::json& value);
// provision_from_json of it gives the same windows; null if there are none.
nlohmann::json provision_to_json(const std::vector<policy::ProvisionWindow>& windows);

}  // namespace mayfly
