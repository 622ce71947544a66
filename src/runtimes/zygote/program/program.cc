#include "runtimes/zygote/program/program.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "base/fd.h"
#include "base/write_all.h"

// The bytes of MAYFLY_ZYGOTE_IMAGE, a file of the build.
asm(".pushsection .rodata.zygote_image, \"a\"\n"
    ".balign 4096\n"
    ".globl mayfly_zygote_image\n"
    "mayfly_zygote_image:\n"
    ".incbin \"" MAYFLY_ZYGOTE_IMAGE
    "\"\n"
    ".globl mayfly_zygote_image_end\n"
    "mayfly_zygote_image_end:\n"
    ".popsection\n");
extern "C" const std::byte mayfly_zygote_image[], mayfly_zygote_image_end[];

namespace mayfly {
namespace {

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

// Kernels before 6.3 don't know MFD_EXEC, and there every memory file may be executed.
Fd executable_memory_file() {
  int fd = memfd_create("mayfly-zygote", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  if (fd < 0 && errno == EINVAL) fd = memfd_create("mayfly-zygote", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  return Fd(fd);
}

}  // namespace

Error exec_zygote(const std::string& runtime_library) {
  const Fd file = executable_memory_file();
  if (!file.valid()) return errno_error(errno, "make a memory file for the zygote's program (vm.memfd_noexec is 2?)");
  if (!write_all(file.get(), {mayfly_zygote_image, mayfly_zygote_image_end}))
    return errno_error(errno, "copy the zygote's program into memory");
  fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
  std::string name = "mayfly-zygote", library = runtime_library;
  char* argv[] = {name.data(), library.data(), nullptr};
  fexecve(file.get(), argv, environ);
  return errno_error(errno, "execute the zygote's program");
}

}  // namespace mayfly
