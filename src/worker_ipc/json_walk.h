// Internal to the parsers of requests (oip_parse.cc, v1_parse.cc): the text buffer of a thread, and walking JSON with
// simdjson's on-demand parser without exceptions. Views that a walk hands out live until the next load() of the buffer.
#pragma once
#include <simdjson.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tensor/tensor.h"

namespace mayfly::json_walk {

namespace od = simdjson::ondemand;
using simdjson::error_code;

// One per thread: the parser's index and the JSON text with the zero padding that simdjson and number_text.h need.
// Given back after a large request, so that threads do not hold their largest request for ever.
struct ParseBuffer {
  static constexpr std::size_t kKeepBytes = 8 << 20;
  static constexpr std::size_t kPadding = simdjson::SIMDJSON_PADDING;
  od::parser parser;
  std::unique_ptr<char[]> text;
  std::size_t capacity = 0;

  void load(std::string_view json) {
    if (json.size() + kPadding > capacity) {
      capacity = json.size() + json.size() / 4 + 4096 + kPadding;
      text.reset(new char[capacity]);
    }
    std::memcpy(text.get(), json.data(), json.size());
    std::memset(text.get() + json.size(), 0, kPadding);
  }
  void trim() {
    if (capacity <= kKeepBytes) return;
    text.reset();
    capacity = 0;
    parser = od::parser();
  }
};

inline Error json_error(error_code e, std::string_view where) {
  const bool wrong_type = e == simdjson::INCORRECT_TYPE || e == simdjson::NUMBER_OUT_OF_RANGE;
  return invalid(wrong_type ? "invalid_value" : "malformed_json", "cannot read the request: {}: {}", where,
                 simdjson::error_message(e));
}

// Calls f(key, value) → Status for each member of an object.
template <typename F>
Status each_field(od::object object, std::string_view where, F&& f) {
  for (auto field : object) {
    std::string_view key;
    if (auto e = field.unescaped_key().get(key)) return json_error(e, where);
    od::value value;
    if (auto e = field.value().get(value)) return json_error(e, where);
    MAYFLY_TRY(f(key, value));
  }
  return Ok{};
}

template <typename F>
Status each_member(od::value object_value, std::string_view where, F&& f) {
  od::object object;
  if (auto e = object_value.get_object().get(object)) return json_error(e, where);
  return each_field(object, where, std::forward<F>(f));
}

template <typename F>
Status each_element(od::value array_value, std::string_view where, F&& f) {
  od::array array;
  if (auto e = array_value.get_array().get(array)) return json_error(e, where);
  for (auto element : array) {
    od::value value;
    if (auto e = element.get(value)) return json_error(e, where);
    MAYFLY_TRY(f(value));
  }
  return Ok{};
}

template <typename T>
Status read(od::value v, std::string_view where, T& out) {
  if (auto e = v.get(out)) return json_error(e, where);
  return Ok{};
}

inline const char* skip_space(const char* p) {
  while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') ++p;
  return p;
}

// Where the text of a value begins. Consumes it, so that the walk goes on behind it and its brackets are checked.
inline Status text_of(od::value v, std::string_view where, const char*& out) {
  out = v.raw_json_token().data();
  od::json_type type{};
  if (auto e = v.type().get(type)) return json_error(e, where);
  std::string_view all;
  if (type == od::json_type::array) {
    od::array a;
    if (auto e = v.get_array().get(a)) return json_error(e, where);
    if (auto e = a.raw_json().get(all)) return json_error(e, where);
  } else if (type == od::json_type::object) {
    od::object o;
    if (auto e = v.get_object().get(o)) return json_error(e, where);
    if (auto e = o.raw_json().get(all)) return json_error(e, where);
  }
  return Ok{};
}

// Walks the members of the object that the buffer's first `length` bytes are, and nothing after it.
template <typename F>
Status each_field_of_body(ParseBuffer& buffer, std::size_t length, F&& f) {
  od::document doc;
  if (auto e = buffer.parser.iterate(buffer.text.get(), length, buffer.capacity).get(doc)) {
    return json_error(e, "body");
  }
  od::object root;
  if (auto e = doc.get_object().get(root)) return json_error(e, "body, which must be one JSON object");
  MAYFLY_TRY(each_field(root, "body", std::forward<F>(f)));
  // Only the end of the text has no location.
  if (doc.current_location().error() != simdjson::OUT_OF_BOUNDS) {
    return json_error(simdjson::TRAILING_CONTENT, "body");
  }
  return Ok{};
}

}  // namespace mayfly::json_walk
