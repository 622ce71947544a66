// The two helpers of gateway/http.h that every HTTP version shares.
#include "gateway/http.h"

namespace mayfly {

bool iequals(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    unsigned char x = static_cast<unsigned char>(a[i]);
    unsigned char y = static_cast<unsigned char>(b[i]);
    if (x == y) continue;
    const unsigned folded = x | 0x20U;
    if (folded != (y | 0x20U) || folded < 'a' || folded > 'z') return false;
  }
  return true;
}

std::string_view RequestHead::header(std::string_view name) const {
  for (const Header& h : headers) {
    if (iequals(h.name, name)) return h.value;
  }
  return {};
}

}  // namespace mayfly
