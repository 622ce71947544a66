#include "tensor/json_parse.h"

#include <string>

namespace mayfly {
namespace {

using Json = nlohmann::json;
using Dom = nlohmann::detail::json_sax_dom_parser<Json>;

// Builds the value as Json::parse does, and stops at the first bracket that is too deep, or value that is too many. The
// parser calls these by static type: they hide those of Dom.
class BoundedDom : public Dom {
 public:
  BoundedDom(Json& root, std::size_t max_depth, std::size_t max_nodes, std::size_t max_numbers)
      : Dom(root, /*allow_exceptions_=*/false), left_(max_depth), nodes_left_(max_nodes), numbers_left_(max_numbers) {}
  bool start_object(std::size_t n) { return node() && enter() && Dom::start_object(n); }
  bool start_array(std::size_t n) { return node() && enter() && Dom::start_array(n); }
  bool key(std::string& v) { return node() && Dom::key(v); }
  bool string(std::string& v) { return node() && Dom::string(v); }
  bool null() { return number() && Dom::null(); }
  bool boolean(bool v) { return number() && Dom::boolean(v); }
  bool number_integer(std::int64_t v) { return number() && Dom::number_integer(v); }
  bool number_unsigned(std::uint64_t v) { return number() && Dom::number_unsigned(v); }
  bool number_float(double v, const std::string& text) { return number() && Dom::number_float(v, text); }
  bool end_object() { return ++left_, Dom::end_object(); }
  bool end_array() { return ++left_, Dom::end_array(); }
  template <typename Exception>
  bool parse_error(std::size_t at, const std::string&, const Exception&) {
    error_at = at;
    return false;
  }
  std::size_t error_at = 0;
  bool too_deep = false, too_many = false;

 private:
  bool enter() {
    too_deep = left_ == 0;
    if (!too_deep) --left_;
    return !too_deep;
  }
  bool node() { return count(nodes_left_); }
  bool number() { return count(numbers_left_); }
  bool count(std::size_t& left) {
    too_many = left == 0;
    if (!too_many) --left;
    return !too_many;
  }
  std::size_t left_, nodes_left_, numbers_left_;
};

}  // namespace

Result<Json> parse_json_bounded(std::string_view text, std::size_t max_depth, std::size_t max_nodes,
                                std::size_t max_numbers) {
  Json root;
  BoundedDom dom(root, max_depth, max_nodes, max_numbers);
  if (Json::sax_parse(text, &dom)) return root;
  if (dom.too_deep) return invalid("malformed_json", "the JSON is nested deeper than {} levels", max_depth);
  if (dom.too_many) {
    return invalid("malformed_json",
                   "the JSON has too many values; the limits are {} objects, arrays, names and strings, and {} numbers",
                   max_nodes, max_numbers);
  }
  return invalid("malformed_json", "the text is not JSON: error at byte {} of {}", dom.error_at, text.size());
}

}  // namespace mayfly
