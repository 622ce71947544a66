// The wire form of protocol buffers, for what is read and written by hand: the hot path and error details. Values; no
// allocation but the growth of the caller's string. The reader takes hostile bytes: every length is checked against
// what is left, and nothing is recursive. Groups (wire types 3 and 4) are refused: no message that we know has any.
// Source: protobuf.dev, "Encoding".
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace mayfly {

enum class WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct WireField {
  std::uint32_t number = 0;
  WireType type = WireType::kVarint;
  std::uint64_t value = 0;  // varint, fixed64, fixed32
  std::string_view bytes;   // kBytes; borrows the message
};

// Takes a varint off the front of `in`. False: it is cut short, or longer than ten bytes.
inline bool take_varint(std::string_view& in, std::uint64_t& out) {
  if (!in.empty() && static_cast<unsigned char>(in[0]) < 0x80) {
    out = static_cast<unsigned char>(in[0]);
    in.remove_prefix(1);
    return true;
  }
  std::uint64_t v = 0;
  for (std::size_t i = 0; i < in.size() && i < 10; ++i) {
    const auto b = static_cast<unsigned char>(in[i]);
    v |= static_cast<std::uint64_t>(b & 0x7F) << (7 * i);
    if (b < 0x80) {
      in.remove_prefix(i + 1);
      out = v;
      return true;
    }
  }
  return false;
}

class WireReader {
 public:
  explicit WireReader(std::string_view message) : left_(message) {}
  // The next field; false at the end, or where the message is malformed: ask ok().
  bool next(WireField& f) {
    if (left_.empty()) return false;
    std::uint64_t tag = 0;
    if (!take_varint(left_, tag) || tag >> 32 != 0 || tag >> 3 == 0) return fail();
    f.number = static_cast<std::uint32_t>(tag >> 3);
    f.type = static_cast<WireType>(tag & 7);
    switch (f.type) {
      case WireType::kVarint:
        return take_varint(left_, f.value) || fail();
      case WireType::kFixed64:
        return take_fixed(8, f.value) || fail();
      case WireType::kFixed32:
        return take_fixed(4, f.value) || fail();
      case WireType::kBytes:
        if (!take_varint(left_, f.value) || f.value > left_.size()) return fail();
        f.bytes = left_.substr(0, f.value);
        left_.remove_prefix(f.value);
        return true;
    }
    return fail();
  }
  bool ok() const { return ok_; }

 private:
  bool take_fixed(std::size_t n, std::uint64_t& out) {
    if (left_.size() < n) return false;
    out = 0;
    std::memcpy(&out, left_.data(), n);
    left_.remove_prefix(n);
    return true;
  }
  bool fail() {
    ok_ = false;
    return false;
  }
  std::string_view left_;
  bool ok_ = true;
};
static_assert(std::endian::native == std::endian::little);

// ---- writing ----

constexpr std::size_t varint_size(std::uint64_t v) { return (static_cast<std::size_t>(std::bit_width(v | 1)) + 6) / 7; }

inline void append_varint(std::string& out, std::uint64_t v) {
  char buffer[10];
  std::size_t n = 0;
  for (; v >= 0x80; v >>= 7) buffer[n++] = static_cast<char>(v | 0x80);
  buffer[n++] = static_cast<char>(v);
  out.append(buffer, n);
}

inline void append_tag(std::string& out, std::uint32_t number, WireType type) {
  append_varint(out, number << 3 | static_cast<std::uint32_t>(type));
}

// Size of a field of `bytes` bytes (field numbers below 16).
constexpr std::size_t bytes_field_size(std::size_t bytes) { return 1 + varint_size(bytes) + bytes; }

inline void append_bytes_field(std::string& out, std::uint32_t number, std::string_view bytes) {
  append_tag(out, number, WireType::kBytes);
  append_varint(out, bytes.size());
  out.append(bytes);
}

inline void append_varint_field(std::string& out, std::uint32_t number, std::uint64_t value) {
  append_tag(out, number, WireType::kVarint);
  append_varint(out, value);
}

// A length that is known only after what follows it is written: five bytes are left free, and filled when the object
// goes. A varint padded with zero groups is as valid as a short one.
class LengthLater {
 public:
  LengthLater(std::string& out, std::uint32_t number) : out_(out) {
    append_tag(out, number, WireType::kBytes);
    at_ = out.size();
    out.append(kBytes, '\0');
  }
  ~LengthLater() {
    std::uint64_t n = out_.size() - at_ - kBytes;
    for (std::size_t i = 0; i < kBytes; ++i, n >>= 7) {
      out_[at_ + i] = static_cast<char>(i + 1 < kBytes ? n | 0x80 : n & 0x7F);
    }
  }
  LengthLater(const LengthLater&) = delete;
  LengthLater& operator=(const LengthLater&) = delete;

 private:
  static constexpr std::size_t kBytes = 5;  // up to 2^35
  std::string& out_;
  std::size_t at_ = 0;
};

}  // namespace mayfly
