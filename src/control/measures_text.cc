#include "control/measures_text.h"

#include <nlohmann/json.hpp>

namespace mayfly {
namespace {

struct Time {
  const char* name;
  policy::RunTime Measures::* member;
};
constexpr Time kTimes[] = {{"work", &Measures::work},
                           {"run", &Measures::run},
                           {"request", &Measures::request},
                           {"start", &Measures::start},
                           {"resume", &Measures::resume}};
struct Size {
  const char* name;
  std::uint64_t Measures::* member;
};
constexpr Size kSizes[] = {{"private_bytes", &Measures::private_bytes}, {"artefact_bytes", &Measures::artefact_bytes}};

}  // namespace

std::string measures_to_json(const Measures& measures) {
  nlohmann::json out = nlohmann::json::object();
  for (const Time& t : kTimes) {
    const policy::RunTime& time = measures.*t.member;
    if (time.measured()) out[t.name] = {time.mean_ns(), time.deviation_ns()};
  }
  for (const Size& s : kSizes) {
    if (measures.*s.member != 0) out[s.name] = measures.*s.member;
  }
  return out.dump();
}

Measures measures_from_json(std::string_view text) {
  Measures out;
  const auto in = nlohmann::json::parse(text, nullptr, false);
  if (!in.is_object()) return out;
  for (const Time& t : kTimes) {
    const auto at = in.find(t.name);
    if (at == in.end() || !at->is_array() || at->size() != 2) continue;
    if (!(*at)[0].is_number_unsigned() || !(*at)[1].is_number_unsigned()) continue;
    out.*t.member = policy::RunTime::known((*at)[0].get<std::uint64_t>(), (*at)[1].get<std::uint64_t>());
  }
  for (const Size& s : kSizes) {
    if (const auto at = in.find(s.name); at != in.end() && at->is_number_unsigned())
      out.*s.member = at->get<std::uint64_t>();
  }
  return out;
}

}  // namespace mayfly
