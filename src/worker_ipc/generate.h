// Triton's generate extension: top-level members of a JSON object are inputs by name, outputs are members of the
// answer. Values; no I/O. Source: Triton, protocol/extension_generate.md.
//
// A value may nest as the input's shape says, or be one element or a flat array: then it fills the free dimensions, the
// last one with as many elements as there are. Members that name no input are ignored ("parameters" too, as in Triton
// for models that read none). Reasons of errors as in worker_ipc/v1.h.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "worker_ipc/arena.h"
#include "worker_ipc/input_area.h"

namespace mayfly {

Status parse_generate(std::string_view body, const Signature& sig, SlotRequest& rq, InputArea& area, std::string& id);

// {"model_name": …, "model_version": …, OUTPUT: value, …}: an element as such, several as a flat array.
Status print_generate_response(std::string& out, std::string_view model, std::string_view version, std::string_view id,
                               const Signature& sig, const SlotResult& r, std::span<const std::byte> output_region);

}  // namespace mayfly
