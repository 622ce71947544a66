// The runtime's code on huge pages. Mapped from its file, an instance has a fault for each 64 KB of it that it runs,
// and its end takes down an entry for each 4 KB: together a fifth of a small model's start. A copy on pages of 2 MB is
// made once, by the zygote, and its clones have it without a fault.
#pragma once
#include <string>

namespace mayfly {

// Replaces the whole 2 MB pages of the code of a loaded library by copies in memory; about 24 MB for ONNX Runtime, once
// for all instances. False where the kernel has no such pages to give (before Linux 6.1, or its memory is in pieces):
// then nothing has changed. No other thread may run.
bool put_code_on_huge_pages(const std::string& library_path);

}  // namespace mayfly
