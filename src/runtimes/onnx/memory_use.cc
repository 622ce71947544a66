#include "runtimes/onnx/memory_use.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <string_view>

#include "base/fd.h"

namespace mayfly {

std::uint64_t private_bytes() {
  malloc_trim(0);
  std::array<char, 4096> text{};
  const Fd f(open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC));
  if (f.valid() && read(f.get(), text.data(), text.size() - 1) > 0) {
    constexpr std::string_view kKey = "Pss_Anon:";
    const std::string_view all(text.data());
    const std::size_t at = all.find(kKey);
    const std::size_t digit = at == all.npos ? all.npos : all.find_first_not_of(' ', at + kKey.size());
    std::uint64_t kb = 0;
    if (digit != all.npos && std::from_chars(all.data() + digit, all.data() + all.size(), kb).ec == std::errc{})
      return kb * 1024;
  }
  const auto m = mallinfo2();
  return m.uordblks + m.hblkhd;
}

}  // namespace mayfly
