// Runs a piece of a test in a child of its own, for what a process can't undo. For tests only.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace mayfly {

// The child's status as waitpid gives it: 0 if `body` was true.
inline int in_child(const std::function<bool()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body() ? 0 : 1);
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

}  // namespace mayfly
