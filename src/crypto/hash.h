// SHA-256, comparison of secrets and random tokens.
//
// Values; no threads, no globals. This folder is the only one that sees OpenSSL. Nothing here can fail for a reason a
// caller could act on: a library without SHA-256 or a kernel without randomness ends the process (MAYFLY_CHECK).
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace mayfly {

// A hash in progress. One owner; hex_digest() ends it, and update() after that is a bug until restart().
class Sha256 {
 public:
  Sha256();
  void update(std::span<const char> bytes);
  std::string hex_digest();  // 64 lower-case hex digits
  void hex_digest(std::span<char, 64> out);
  void restart();  // of another one, with the same memory

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
  bool finished_ = false;
};

std::string sha256_hex(std::string_view bytes);
// Time depends on the lengths only, never on where the bytes differ.
bool constant_time_equal(std::string_view a, std::string_view b);
// `chars` characters of [0-9A-Za-z], each uniform: 5.95 bits of entropy a character, from the kernel.
std::string random_token(std::size_t chars);

}  // namespace mayfly
