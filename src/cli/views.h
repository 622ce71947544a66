// The tables of several commands, from the API's JSON. Pure; `now_ms` is Unix time.
#pragma once
#include <cstdint>
#include <string>

#include "cli/table.h"

namespace mayfly::cli {

std::string endpoints_table(const Json& endpoints, std::uint64_t now_ms);
std::string instances_table(const Json& instances);
std::string versions_table(const Json& versions, std::uint64_t now_ms);
std::string age(const Json& object, const char* created_ms, std::uint64_t now_ms);  // "5 min", "-" if unknown
std::uint64_t unix_ms();

}  // namespace mayfly::cli
