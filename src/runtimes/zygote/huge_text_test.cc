// Each test runs in a child: what it does to the code of a library can't be undone.
#include "runtimes/zygote/huge_text.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <fstream>

#include "base/huge_pages.h"
#include "base/in_child.h"
#include "runtimes/onnx/onnx_runtime.h"

namespace mayfly {
namespace {

const std::string kLibrary = MAYFLY_DEPS_DIR "/onnxruntime/libonnxruntime.so.1.32.0";

std::size_t anonymous_code_bytes() {
  std::ifstream in("/proc/self/maps");
  std::size_t from = 0, to = 0, bytes = 0;
  std::string line;
  while (std::getline(in, line)) {
    char mode[5] = {}, file[2] = {};
    const int found = std::sscanf(line.c_str(), "%zx-%zx %4s %*s %*s %*s %1s", &from, &to, mode, file);
    if (found == 3 && std::string(mode) == "r-xp") bytes += to - from;
  }
  return bytes;
}

TEST(HugeText, TheRuntimeRunsOnItsCopyAndSoDoClones) {
  if (!huge_pages_available()) GTEST_SKIP() << "no huge pages here";
  EXPECT_EQ(in_child([] {
              auto runtime = OnnxRuntime::load(kLibrary);
              return runtime.ok() && put_code_on_huge_pages(kLibrary) && anonymous_code_bytes() >= 8 * kHugePage &&
                     (*runtime)->prime().ok() && in_child([&] { return (*runtime)->prime().ok(); }) == 0;
            }),
            0);
}

TEST(HugeText, NothingChangesWhereThereAreNone) {
  EXPECT_EQ(in_child([] {
              prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
              auto runtime = OnnxRuntime::load(kLibrary);
              return runtime.ok() && !put_code_on_huge_pages(kLibrary) && anonymous_code_bytes() == 0 &&
                     (*runtime)->prime().ok();
            }),
            0);
}

TEST(HugeText, ALibraryThatIsNotLoadedIsLeftAlone) { EXPECT_FALSE(put_code_on_huge_pages("/nowhere.so")); }

}  // namespace
}  // namespace mayfly
