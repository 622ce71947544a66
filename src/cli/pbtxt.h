// Protocol buffers in text form, as far as a model repository's config.pbtxt needs it: fields, nested messages, lists,
// strings, numbers, names, comments. No schema: a field is a name and its text or its own fields. Pure.
// Source: protobuf.dev, "Text Format Language Specification". Not read: extensions ([a.b]) and Any.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly::cli {

inline constexpr std::size_t kMaxPbtxtBytes = 1 << 20;
inline constexpr int kMaxPbtxtDepth = 32;

struct PbField {
  std::string name;
  std::string text;  // of a scalar: a string without quotes, a number, a name
  std::vector<PbField> fields;
  bool message = false;
  int line = 0;

  const PbField* find(std::string_view member) const;  // the last of that name, as protobuf takes it; null if none
  std::vector<const PbField*> all(std::string_view member) const;  // of a repeated field; a list gives one for each
  std::string value(std::string_view member) const;                // text of a scalar, "" if absent
};

// The top level as a message without a name. invalid "invalid_pbtxt", with the line.
Result<PbField> parse_pbtxt(std::string_view text);

// The text of a scalar as a number; nothing if it is none.
std::optional<std::int64_t> pb_number(std::string_view text);

}  // namespace mayfly::cli
