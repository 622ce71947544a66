#include "node/supply.h"

#include <sys/stat.h>

namespace mayfly {

bool artefact_there(const Version& v) {
  struct stat st{};
  if (stat(v.artefact_path.c_str(), &st) != 0) return false;
  const std::uint64_t bytes = v.artefact ? v.artefact->bytes : 0;
  return bytes == 0 || static_cast<std::uint64_t>(st.st_size) == bytes;
}

}  // namespace mayfly
