#include "tensor/json_parse.h"

#include <string>

namespace mayfly {
namespace {

using Json = nlohmann::json;
using Dom = nlohmann::detail::json_sax_dom_parser<Json>;

// Builds the value as Json::parse does, and stops at the first bracket that is too deep. The parser calls these by
// static type: they hide those of Dom.
class BoundedDom : public Dom {
 public:
  BoundedDom(Json& root, std::size_t max_depth) : Dom(root, /*allow_exceptions_=*/false), left_(max_depth) {}
  bool start_object(std::size_t n) { return enter() && Dom::start_object(n); }
  bool start_array(std::size_t n) { return enter() && Dom::start_array(n); }
  bool end_object() { return ++left_, Dom::end_object(); }
  bool end_array() { return ++left_, Dom::end_array(); }
  template <typename Exception>
  bool parse_error(std::size_t at, const std::string&, const Exception&) {
    error_at = at;
    return false;
  }
  std::size_t error_at = 0;
  bool too_deep = false;

 private:
  bool enter() {
    too_deep = left_ == 0;
    if (!too_deep) --left_;
    return !too_deep;
  }
  std::size_t left_;
};

}  // namespace

Result<Json> parse_json_bounded(std::string_view text, std::size_t max_depth) {
  Json root;
  BoundedDom dom(root, max_depth);
  if (Json::sax_parse(text, &dom)) return root;
  if (dom.too_deep) return invalid("malformed_json", "the JSON is nested deeper than {} levels", max_depth);
  return invalid("malformed_json", "the text is not JSON: error at byte {} of {}", dom.error_at, text.size());
}

}  // namespace mayfly
