// What was measured of a version, as text that the store keeps, so that a server that starts anew knows what a start
// of it costs and how much memory it takes.
#pragma once
#include <string>
#include <string_view>

#include "node/record.h"

namespace mayfly {

// {"work":[mean,deviation],"run":…,"request":…,"start":…,"resume":…,"private_bytes":n,"artefact_bytes":n}, times in
// nanoseconds; what was not measured is left out.
std::string measures_to_json(const Measures& measures);
// The reverse. Of text that is nothing of the kind: nothing was measured.
Measures measures_from_json(std::string_view text);

}  // namespace mayfly
