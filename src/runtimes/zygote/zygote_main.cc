// mayfly-zygote RUNTIME_LIBRARY: what exec_zygote() starts, with the launcher's socket as its only descriptor above 2.
#include <sys/prctl.h>

#include <cstdio>

#include "launcher/protocol.h"
#include "runtimes/zygote/zygote.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "mayfly-zygote is started by `mayfly serve`\n");
    return 2;
  }
  prctl(PR_SET_NAME, "mayfly-zygote");
  return mayfly::zygote_main({mayfly::kZygoteSocket, argv[1]});
}
