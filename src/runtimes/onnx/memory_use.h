// What the calling process holds in private memory, for the reports of compile jobs. Costs up to milliseconds.
#pragma once
#include <cstdint>

namespace mayfly {

// Pss_Anon where /proc is mounted. (Private_Dirty would count the artefact's own pages: they were just written, and
// nobody else maps them yet.) In the sandbox there is no /proc, and the allocator's figures (bytes handed out, mapped
// ones included) stand for it.
std::uint64_t private_bytes();

}  // namespace mayfly
