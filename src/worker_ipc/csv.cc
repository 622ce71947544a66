#include "worker_ipc/csv.h"

#include "tensor/bytes.h"
#include "worker_ipc/value_print.h"

namespace mayfly {
namespace {

// The next line without its end; false at the end of the text.
bool next_line(std::string_view& rest, std::string_view& line) {
  if (rest.empty()) return false;
  const auto end = rest.find('\n');
  line = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return true;
}

void append_quoted(std::string& out, std::string_view s) {
  out += '"';
  for (char c : s) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

struct Column {
  Dtype dtype = Dtype::kInvalid;
  std::uint64_t per_row = 0;
  std::span<const std::byte> rest;
};

void print_row(std::string& out, Column& c) {
  if (c.dtype != Dtype::kBytes) return append_elements(out, c.dtype, c.rest, c.per_row);
  for (std::uint64_t i = 0; i < c.per_row; ++i) {
    const auto e = next_bytes_element(c.rest);
    if (!e) return;  // only if the instance changed the region after read_result
    const std::string copy(reinterpret_cast<const char*>(e->data()), e->size());
    if (i > 0) out += ',';
    append_quoted(out, copy);
  }
}

}  // namespace

// The lines become the rows of a JSON array, which the reader of bare rows takes from there.
Status parse_csv(std::string_view body, const Signature& sig, SlotRequest& rq, InputArea& area, V1Request& out) {
  if (sig.inputs.size() != 1 || sig.inputs[0].dtype == Dtype::kBytes || sig.inputs[0].shape.rank < 1 ||
      sig.inputs[0].shape.rank > 2) {
    return invalid("invalid_csv",
                   "text/csv is for models with one numeric input of rank 1 or 2; this one has {} inputs{}; send JSON",
                   sig.inputs.size(),
                   sig.inputs.empty() ? std::string() : ", the first " + to_string(sig.inputs[0].shape));
  }
  const bool nested = sig.inputs[0].shape.rank == 2;
  std::string json = "[";
  json.reserve(body.size() + body.size() / 8 + 16);
  std::string_view line;
  for (std::uint64_t number = 1; next_line(body, line); ++number) {
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    // Anything else would be read as the JSON that it is put into.
    if (const auto bad = line.find_first_of("[]{}\""); bad != std::string_view::npos)
      return invalid("invalid_csv", "line {} of the text/csv body has a {}; expected numbers between commas", number,
                     line[bad]);
    if (json.size() > 1) json += ',';
    if (nested) json += '[';
    json += line;
    if (nested) json += ']';
  }
  json += ']';
  return parse_bare_rows(json, sig, rq, area, out);
}

Status print_csv(std::string& out, std::uint64_t rows, const Signature& sig, const SlotResult& r,
                 std::span<const std::byte> output_region) {
  std::vector<Column> columns;
  for (std::uint32_t i = 0; i < sig.outputs.size(); ++i) {
    auto view = view_output(sig, r, output_region, i);
    if (!view.ok()) return std::move(view.error());
    if (rows == 0 || view->count % rows != 0) {
      return invalid("not_batched", "output \"{}\" has {} values, which are no row for each of the {} of the request",
                     view->name, view->count, rows);
    }
    columns.push_back({view->dtype, view->count / rows, view->data});
  }
  for (std::uint64_t i = 0; i < rows; ++i) {
    for (Column& c : columns) {
      if (&c != columns.data()) out += ',';
      print_row(out, c);
    }
    out += '\n';
  }
  return Ok{};
}

}  // namespace mayfly
