// Schemas, request bodies and responses of /openapi.json, which the route table refers to by name.
#pragma once
#include <string_view>

namespace mayfly {

// The members of "components" but for the security schemes, as JSON text without the outer braces.
std::string_view openapi_components();

}  // namespace mayfly
