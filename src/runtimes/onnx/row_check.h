// Whether rows of a batch influence each other: a signature can't say it (normalisation over the batch, a soft maximum
// over the wrong axis, a first dimension that is a sequence). Three different rows are run together and one by one, and
// compared.
#pragma once
#include "runtimes/onnx/ort_api.h"

namespace mayfly {

// False too where the model can't be run so. Runs the model four times; one thread.
bool rows_are_independent(const Ort& ort, const Session& session);

}  // namespace mayfly
