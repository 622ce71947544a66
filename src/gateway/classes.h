// Classes with their labels, for the dialects that answer them: [{"label": …, "index": …, "score": …}, …], best first.
#pragma once
#include <string>

#include "control/control.h"
#include "worker_ipc/arena.h"

namespace mayfly {

// `served` has output.classes; a class without a label has none. A score that is no number is null.
void append_classes(std::string& out, const ServedVersion& served, const SlotResult& r);

}  // namespace mayfly
