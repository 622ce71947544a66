// The codec of KServe's V1 protocol, which is TensorFlow Serving's REST predict API: requests straight into a slot's
// input region, answers straight from its output region. Values; no I/O; each thread has its own parser and text
// buffer.
//
//   row form      {"instances": [row, …]}         row: a value for the one input, or {input: value, …}
//   column form   {"inputs": value}               value with its batch dimension, or {input: value, …}
//
// A tensor's shape is how its value nests, checked against the signature. BYTES are strings or {"b64": "…"}; floats may
// be NaN, Infinity, -Infinity, both ways. An endpoint that takes pictures takes one as {"b64": "…"}, in either form.
// Sources: TensorFlow Serving docs "RESTful API" and util/json_tensor.cc; KServe "V1 protocol".
// Reasons of errors (kInvalidArgument): malformed_json, missing_tensor, unknown_tensor, duplicate_tensor,
// tensor_shape_mismatch, value_out_of_range, invalid_value, payload_too_large, not_batched.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "worker_ipc/arena.h"
#include "worker_ipc/input_area.h"

namespace mayfly {

inline constexpr std::size_t kMaxNamedRows =
    65536;  // rows of the form {input: value}; the column form has no such limit

enum class V1Form : std::uint8_t { kRows, kColumns };

struct V1Request {
  V1Form form = V1Form::kRows;
  std::uint64_t rows = 0;  // of the row form
  bool picture = false;    // the region holds an encoded picture
};

struct V1Options {
  bool takes_picture = false;               // the endpoint has an image input
  std::string_view rows_key = "instances";  // "examples" for :classify
  std::string_view columns_key = "inputs";
};

// Fills rq (inputs, input_count, output_mask, kind, raw_bytes) and `area`; on an error the area's content is
// unspecified. Of a picture, `region` is the whole input region, which `area` describes.
Status parse_v1(std::string_view body, const V1Options& options, const Signature& sig, SlotRequest& rq, InputArea& area,
                std::span<std::byte> region, V1Request& out);

// A JSON array of rows for the one input of a model, without an object around it: [row, …].
Status parse_bare_rows(std::string_view body, const Signature& sig, SlotRequest& rq, InputArea& area, V1Request& out);

// {"predictions": [row, …]} or {"outputs": …}; a single output is not named. BYTES outputs whose names end with
// "_bytes" are base64. not_batched: the row form needs outputs whose first dimension is the number of rows.
Status print_v1_response(std::string& out, const V1Request& rq, const Signature& sig, const SlotResult& r,
                         std::span<const std::byte> output_region);

}  // namespace mayfly
