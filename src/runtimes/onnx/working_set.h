// Which parts of an artefact the making of a session and its first run read. The artefact is mapped without access, and
// each fault opens one block and notes it: exact, whatever the page cache holds, and without any privilege. For compile
// jobs and one thread: it takes over SIGSEGV meanwhile. A fault elsewhere ends the process as it would have anyway.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtimes/onnx/ort_api.h"

namespace mayfly {

struct ByteRange {
  std::uint64_t offset = 0, bytes = 0;
  bool operator==(const ByteRange&) const = default;
};
inline constexpr std::size_t kMaxWorkingRanges = 128;
inline constexpr std::uint64_t kWorkingBlock = 64 * 1024;  // larger where that makes more than kMaxWorkingBlocks
inline constexpr std::uint64_t kMaxWorkingBlocks = 8192;   // each may become a mapping of its own meanwhile

// Ascending; nothing if the model could not be run.
std::vector<ByteRange> trace_working_set(const Ort& ort, int artefact_fd, std::uint64_t bytes, std::int64_t free_dim);
// Blocks as ranges of a file of `bytes`. Gaps are read too where that costs less than another range, and where there
// would be more than kMaxWorkingRanges.
std::vector<ByteRange> join_blocks(const std::vector<bool>& touched, std::uint64_t block, std::uint64_t bytes);
// {"bytes":…,"ranges":[[offset,bytes],…]}
std::string working_set_report(const std::vector<ByteRange>& ranges);

}  // namespace mayfly
