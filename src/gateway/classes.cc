#include "gateway/classes.h"

#include <cmath>

#include "tensor/json.h"

namespace mayfly {

void append_classes(std::string& out, const ServedVersion& served, const SlotResult& r) {
  const auto& labels = served.settings.classes->labels;
  out += '[';
  for (std::uint32_t i = 0; i < r.top_count; ++i) {
    out += i > 0 ? ",{" : "{";
    if (r.top[i].index < labels.size()) {
      out += "\"label\":";
      append_json_string(out, labels[r.top[i].index]);
      out += ',';
    }
    fmt::format_to(std::back_inserter(out), "\"index\":{},\"score\":", r.top[i].index);
    if (std::isfinite(r.top[i].score))
      fmt::format_to(std::back_inserter(out), "{}}}", r.top[i].score);
    else
      out += "null}";
  }
  out += ']';
}

}  // namespace mayfly
