// text/csv as SageMaker's built-in algorithms take and give it: a line for each row, no header, numbers only.
// Values; no I/O.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "worker_ipc/arena.h"
#include "worker_ipc/input_area.h"
#include "worker_ipc/v1.h"

namespace mayfly {

// Rows for the one input of a model, of rank 1 (one value a line) or 2. Errors as parse_v1, and invalid "invalid_csv".
Status parse_csv(std::string_view body, const Signature& sig, SlotRequest& rq, InputArea& area, V1Request& out);

// A line for each row: the values of all outputs in the model's order, one after the other. Strings are quoted.
Status print_csv(std::string& out, std::uint64_t rows, const Signature& sig, const SlotResult& r,
                 std::span<const std::byte> output_region);

}  // namespace mayfly
