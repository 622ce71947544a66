// parse_v1: walks the request with simdjson's on-demand parser; the values themselves are read by oip_data.cc from the
// text as it lies. Where rows name their inputs, the places of their values are collected first, so that each input
// becomes one tensor.
#include <algorithm>
#include <cstring>
#include <vector>

#include "worker_ipc/json_walk.h"
#include "worker_ipc/oip_checks.h"
#include "worker_ipc/oip_data.h"
#include "worker_ipc/v1.h"

namespace mayfly {
namespace {

using namespace json_walk;

class V1Parser {
 public:
  V1Parser(const V1Options& options, const Signature& sig, SlotRequest& rq, InputArea& area,
           std::span<std::byte> region, V1Request& out)
      : options_(options), sig_(sig), rq_(rq), area_(area), region_(region), out_(out) {}

  Status run(ParseBuffer& buffer, std::size_t length) {
    MAYFLY_TRY(each_field_of_body(buffer, length, [&](std::string_view key, od::value v) { return member(key, v); }));
    if (found_) return Ok{};
    return invalid("missing_tensor", "the request has neither \"{}\" (row form) nor \"{}\" (column form)",
                   options_.rows_key, options_.columns_key);
  }

  // `text` ends at `end`.
  Status bare_rows(const char* text, const char* end) {
    out_.form = V1Form::kRows;
    MAYFLY_TRY(whole(text, options_.rows_key));
    if (after_ == end) return Ok{};
    return invalid("malformed_json", "the array of rows is followed by something else");
  }

 private:
  Status member(std::string_view key, od::value v) {
    if (key == "signature_name") return signature_name(v);
    const bool rows = key == options_.rows_key;
    if (!rows && key != options_.columns_key) return Ok{};
    if (std::exchange(found_, true)) {
      return invalid("invalid_value", "the request has \"{}\" and \"{}\", or one of them twice; send one",
                     options_.rows_key, options_.columns_key);
    }
    out_.form = rows ? V1Form::kRows : V1Form::kColumns;
    return rows ? read_rows(v) : read_columns(v);
  }

  static Status signature_name(od::value v) {
    std::string_view name;
    MAYFLY_TRY(read(v, "signature_name", name));
    if (name.empty() || name == "serving_default") return Ok{};
    return invalid("invalid_value", "there is no signature \"{}\"; the only one is \"serving_default\"", shown(name));
  }

  Status read_rows(od::value v) {
    const std::string_view key = options_.rows_key;
    const char* const text = v.raw_json_token().data();
    if (*text != '[') return invalid("invalid_value", "\"{}\" must be an array of rows", key);
    const char* const first = skip_space(text + 1);
    if (options_.takes_picture && *first == '{') return picture(v, first, key);
    if (*first != '{' || b64_text(first) != nullptr) {
      const char* begin = nullptr;
      MAYFLY_TRY(text_of(v, key, begin));
      return whole(begin, key);
    }
    pieces_.clear();
    std::size_t rows = 0;
    MAYFLY_TRY(each_element(v, key, [&](od::value row) -> Status {
      if (++rows > kMaxNamedRows) {
        return invalid("payload_too_large", "\"{}\" has more than {} rows with named inputs; use \"{}\"", key,
                       kMaxNamedRows, options_.columns_key);
      }
      return named(row, key);
    }));
    out_.rows = rows;
    MAYFLY_TRY(check_rows());
    for (std::size_t i = 0; i < sig_.inputs.size(); ++i) MAYFLY_TRY(gather(i, rows, key));
    return Ok{};
  }

  Status read_columns(od::value v) {
    const std::string_view key = options_.columns_key;
    const char* const text = v.raw_json_token().data();
    if (options_.takes_picture && *text == '{') return picture(v, text, key);
    if (*text != '{' || b64_text(text) != nullptr) {
      const char* begin = nullptr;
      MAYFLY_TRY(text_of(v, key, begin));
      return whole(begin, key);
    }
    pieces_.clear();
    MAYFLY_TRY(named(v, key));
    for (std::size_t i = 0; i < sig_.inputs.size(); ++i) {
      const std::span<std::byte> room = area_.room(static_cast<std::uint32_t>(i));
      auto data = read_value(pieces_[i], i, key, room);
      if (!data.ok()) return std::move(data.error());
      MAYFLY_TRY(place(i, data->shape, data->bytes));
    }
    return Ok{};
  }

  // The value of the only input, as it lies.
  Status whole(const char* text, std::string_view key) {
    if (sig_.inputs.size() != 1) {
      return invalid("missing_tensor", "the model has {} inputs; name them in \"{}\": {}", sig_.inputs.size(), key,
                     names_of(sig_.inputs));
    }
    auto data = read_value(text, 0, key, area_.room(0));
    if (!data.ok()) return std::move(data.error());
    out_.rows = data->shape.rank > 0 ? static_cast<std::uint64_t>(data->shape.dims[0]) : 0;
    MAYFLY_TRY(check_rows());
    return place(0, data->shape, data->bytes);
  }

  // {input: value, …}: appends the places of the values to pieces_, one for each input of the signature.
  Status named(od::value v, std::string_view key) {
    const std::size_t start = pieces_.size();
    pieces_.resize(start + sig_.inputs.size(), nullptr);
    std::uint64_t seen = 0;
    MAYFLY_TRY(each_member(v, key, [&](std::string_view name, od::value value) -> Status {
      auto index = find_input(sig_, name, seen);
      if (!index.ok()) return std::move(index.error());
      return text_of(value, key, pieces_[start + *index]);
    }));
    for (std::size_t i = 0; i < sig_.inputs.size(); ++i) {
      if (pieces_[start + i] != nullptr) continue;
      return invalid("missing_tensor", "input \"{}\" is missing from \"{}\"; expected: {}", sig_.inputs[i].name, key,
                     names_of(sig_.inputs));
    }
    return Ok{};
  }

  // One tensor of input `i` from its values in all rows.
  Status gather(std::size_t i, std::size_t rows, std::string_view key) {
    const std::span<std::byte> room = area_.room(static_cast<std::uint32_t>(i));
    Shape shape;
    std::uint64_t used = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      auto data = read_value(pieces_[r * sig_.inputs.size() + i], i, key, room.subspan(used));
      if (!data.ok()) return std::move(data.error());
      if (r > 0 && !(data->shape == shape)) {
        return invalid("tensor_shape_mismatch", "input \"{}\": row {} has shape {}, the rows before it {}",
                       sig_.inputs[i].name, r, to_string(data->shape), to_string(shape));
      }
      shape = data->shape;
      used += data->bytes;
    }
    if (shape.rank == kMaxRank) {
      return invalid("tensor_shape_mismatch", "input \"{}\": rows of more than {} dimensions", sig_.inputs[i].name,
                     kMaxRank - 1);
    }
    std::copy_backward(shape.dims.begin(), shape.dims.begin() + shape.rank, shape.dims.begin() + shape.rank + 1);
    shape.dims[0] = static_cast<std::int64_t>(rows);
    ++shape.rank;
    return place(i, shape, used);
  }

  Result<NestedData> read_value(const char* text, std::size_t i, std::string_view key, std::span<std::byte> room) {
    auto data = parse_nested_data(text, sig_.inputs[i].name, key, sig_.inputs[i].dtype, room);
    if (!data.ok()) return data;
    const char* const end = after_ = skip_space(data->end);
    if (*end == ',' || *end == ']' || *end == '}' || *end == '\0') return data;
    return invalid("malformed_json", "input \"{}\": \"{}\" goes on after a value with \"{}\"", sig_.inputs[i].name, key,
                   std::string_view(end, 1));
  }

  Status place(std::size_t i, const Shape& shape, std::uint64_t bytes) {
    const TensorSpec& spec = sig_.inputs[i];
    bool fits = shape.rank == spec.shape.rank;
    for (std::size_t k = 0; fits && k < shape.rank; ++k)
      fits = spec.shape.dims[k] == -1 || spec.shape.dims[k] == shape.dims[k];
    if (!fits) {
      return invalid("tensor_shape_mismatch", "input \"{}\": the values nest to shape {}; expected {} (-1: any size)",
                     spec.name, to_string(shape), to_string(spec.shape));
    }
    TensorRef& ref = rq_.inputs[rq_.input_count++];
    ref = TensorRef{};
    ref.index = static_cast<std::uint32_t>(i);
    ref.dtype = static_cast<std::uint8_t>(spec.dtype);
    ref.rank = shape.rank;
    std::memcpy(ref.dims, shape.dims.data(), sizeof(ref.dims));
    ref.bytes = bytes;
    ref.offset = area_.take(ref.index, bytes);
    return Ok{};
  }

  // `at`: {"b64": "…"}, or {NAME: {"b64": "…"}} with any one name; of the row form it is the only element.
  Status picture(od::value v, const char* at, std::string_view key) {
    const char* text = b64_text(at);
    bool wrapped = false;
    if (text == nullptr && *(at = skip_space(at + 1)) == '"') {
      const char* p = at + 1;
      while (*p != '"' && *p != '\\' && *p != '\0') ++p;
      if (*p == '"' && *(p = skip_space(p + 1)) == ':') text = b64_text(skip_space(p + 1));
      wrapped = true;
    }
    const char* end = text == nullptr ? nullptr : read_b64(text, region_, rq_.raw_bytes);
    if (end != nullptr && wrapped) {
      end = skip_space(end);
      end = *end == '}' ? end + 1 : nullptr;
    }
    if (end == nullptr || rq_.raw_bytes == 0) {
      return invalid("invalid_value",
                     "\"{}\": this endpoint takes pictures, as {{\"b64\": \"…\"}} of at most {} bytes, or tensors", key,
                     region_.size());
    }
    if (out_.form == V1Form::kRows && *skip_space(end) != ']') {
      return invalid("invalid_value", "\"{}\": one picture a request; send further ones in requests of their own", key);
    }
    const char* begin = nullptr;
    MAYFLY_TRY(text_of(v, key, begin));
    rq_.kind = RequestKind::kImage;
    out_.rows = 1;
    out_.picture = true;
    return Ok{};
  }

  Status check_rows() const {
    if (out_.form == V1Form::kRows && out_.rows == 0)
      return invalid("missing_tensor", "\"{}\" has no rows", options_.rows_key);
    return Ok{};
  }

  const V1Options& options_;
  const Signature& sig_;
  SlotRequest& rq_;
  InputArea& area_;
  std::span<std::byte> region_;
  V1Request& out_;
  std::vector<const char*> pieces_;  // row by row, the inputs of the signature in order
  const char* after_ = nullptr;      // where the text goes on after the value that was read last
  bool found_ = false;
};

void reset(SlotRequest& rq, V1Request& out) {
  rq.kind = RequestKind::kTensors;
  rq.input_count = 0;
  rq.raw_bytes = 0;
  rq.output_mask = ~std::uint64_t{0};
  out = V1Request{};
}

thread_local ParseBuffer t_buffer;

}  // namespace

Status parse_v1(std::string_view body, const V1Options& options, const Signature& sig, SlotRequest& rq, InputArea& area,
                std::span<std::byte> region, V1Request& out) {
  if (body.empty()) return invalid("malformed_json", "the request is empty; expected {{\"instances\": [row, …]}}");
  reset(rq, out);
  t_buffer.load(body);
  Status s = V1Parser(options, sig, rq, area, region, out).run(t_buffer, body.size());
  t_buffer.trim();
  return s;
}

Status parse_bare_rows(std::string_view body, const Signature& sig, SlotRequest& rq, InputArea& area, V1Request& out) {
  reset(rq, out);
  t_buffer.load(body);
  const V1Options options;
  const char* const text = skip_space(t_buffer.text.get());
  Status s = *text == '[' ? V1Parser(options, sig, rq, area, {}, out).bare_rows(text, t_buffer.text.get() + body.size())
                          : invalid("malformed_json", "expected an array of rows");
  t_buffer.trim();
  return s;
}

}  // namespace mayfly
