// The classification extension: scores become the best "score:index" strings of each row. Internal to the codecs.
#pragma once
#include <cstdint>
#include <string>

#include "worker_ipc/value_print.h"

namespace mayfly {

// The best k of each row of the last dimension of a floating point tensor, as a BYTES tensor: its bytes. `t` becomes
// that tensor but for `data`, which is empty: where the bytes are kept is the caller's choice.
std::string classify(OutputView& t, std::uint32_t k);

}  // namespace mayfly
