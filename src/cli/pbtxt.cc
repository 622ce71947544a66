#include "cli/pbtxt.h"

#include <charconv>

namespace mayfly::cli {
namespace {

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
         c == '-' || c == '+';
}

class Parser {
 public:
  explicit Parser(std::string_view text) : rest_(text) {}

  // Fields up to `end` ('\0': the end of the text).
  Status fields(char end, std::vector<PbField>& out, int depth) {
    if (depth > kMaxPbtxtDepth) return fault(fmt::format("nested deeper than {} messages", kMaxPbtxtDepth));
    for (;;) {
      skip();
      if (peek() == ',' || peek() == ';') {
        take();
        continue;
      }
      if (peek() == end) {
        if (end != '\0') take();
        return Ok{};
      }
      MAYFLY_TRY(field(out, depth));
    }
  }

 private:
  Status field(std::vector<PbField>& out, int depth) {
    PbField f;
    f.line = line_;
    MAYFLY_TRY(word(f.name, "the name of a field"));
    skip();
    const bool colon = peek() == ':';
    if (colon) {
      take();
      skip();
    }
    if (peek() != '[') {
      MAYFLY_TRY(value(f, colon, depth));
      out.push_back(std::move(f));
      return Ok{};
    }
    take();
    for (bool first = true;; first = false) {
      skip();
      if (peek() == ']') {
        take();
        return Ok{};
      }
      if (!first) {
        if (peek() != ',') return fault("expected , or ] in a list");
        take();
        skip();
      }
      PbField one;
      one.name = f.name;
      one.line = line_;
      MAYFLY_TRY(value(one, colon, depth));
      out.push_back(std::move(one));
    }
  }

  Status value(PbField& f, bool colon, int depth) {
    if (peek() == '{' || peek() == '<') {
      f.message = true;
      const char end = take() == '{' ? '}' : '>';
      return fields(end, f.fields, depth + 1);
    }
    if (!colon) return fault("expected : or { after a field's name");
    if (peek() != '"' && peek() != '\'') return word(f.text, "a value");
    while (peek() == '"' || peek() == '\'') {  // strings side by side are one
      MAYFLY_TRY(quoted(f.text));
      skip();
    }
    return Ok{};
  }

  Status word(std::string& out, std::string_view what) {
    std::size_t n = 0;
    while (n < rest_.size() && is_name(rest_[n])) ++n;
    if (n == 0) {
      return fault(rest_.empty() ? fmt::format("the text ends where {} is expected", what)
                                 : fmt::format("expected {}, found \"{}\"", what, rest_.substr(0, 1)));
    }
    out = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return Ok{};
  }

  Status quoted(std::string& out) {
    const char quote = take();
    while (!rest_.empty() && rest_.front() != quote) {
      char c = take();
      if (c == '\n') return fault("a string goes over the end of its line");
      if (c == '\\') {
        if (rest_.empty()) break;
        c = take();
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
      }
      out += c;
    }
    if (rest_.empty()) return fault("a string has no end");
    take();
    return Ok{};
  }

  void skip() {
    while (!rest_.empty()) {
      const char c = rest_.front();
      if (c == '#') {
        rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        take();
      } else {
        return;
      }
    }
  }
  char peek() const { return rest_.empty() ? '\0' : rest_.front(); }
  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    if (c == '\n') ++line_;
    return c;
  }
  Error fault(std::string_view what) const { return invalid("invalid_pbtxt", "line {}: {}", line_, what); }

  std::string_view rest_;
  int line_ = 1;
};

}  // namespace

const PbField* PbField::find(std::string_view member) const {
  for (auto it = fields.rbegin(); it != fields.rend(); ++it) {
    if (it->name == member) return &*it;
  }
  return nullptr;
}

std::vector<const PbField*> PbField::all(std::string_view member) const {
  std::vector<const PbField*> out;
  for (const PbField& f : fields) {
    if (f.name == member) out.push_back(&f);
  }
  return out;
}

std::string PbField::value(std::string_view member) const {
  const PbField* f = find(member);
  return f == nullptr ? std::string() : f->text;
}

Result<PbField> parse_pbtxt(std::string_view text) {
  if (text.size() > kMaxPbtxtBytes) {
    return invalid("invalid_pbtxt", "the file has {} bytes; the limit is {}", text.size(), kMaxPbtxtBytes);
  }
  if (text.find('\0') != std::string_view::npos) return invalid("invalid_pbtxt", "the file is no text");
  PbField top;
  top.message = true;
  MAYFLY_TRY(Parser(text).fields('\0', top.fields, 0));
  return top;
}

std::optional<std::int64_t> pb_number(std::string_view text) {
  std::int64_t n = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc() || end != text.data() + text.size()) return {};
  return n;
}

}  // namespace mayfly::cli
