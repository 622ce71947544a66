#include "crypto/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include <cerrno>

#include "base/result.h"

namespace mayfly {
namespace {

void fill_random(std::span<unsigned char> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::getrandom(out.data() + done, out.size() - done, 0);
    if (n < 0 && errno == EINTR) continue;
    MAYFLY_CHECK(n > 0);
    done += static_cast<std::size_t>(n);
  }
}

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  MAYFLY_CHECK(context_ != nullptr);
  MAYFLY_CHECK(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}

void Sha256::update(std::span<const char> bytes) {
  MAYFLY_CHECK(!finished_);
  MAYFLY_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

void Sha256::hex_digest(std::span<char, 64> out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  MAYFLY_CHECK(!finished_);
  finished_ = true;
  unsigned char digest[32];
  unsigned int size = 0;
  MAYFLY_CHECK(EVP_DigestFinal_ex(context_.get(), digest, &size) == 1 && size == sizeof digest);
  for (std::size_t i = 0; i < sizeof digest; ++i) {
    out[2 * i] = kDigits[digest[i] >> 4];
    out[2 * i + 1] = kDigits[digest[i] & 15];
  }
}

std::string Sha256::hex_digest() {
  std::string hex(64, '\0');
  hex_digest(std::span<char, 64>(hex.data(), 64));
  return hex;
}

void Sha256::restart() {
  MAYFLY_CHECK(EVP_DigestInit_ex(context_.get(), nullptr, nullptr) == 1);
  finished_ = false;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex_digest();
}

bool constant_time_equal(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  return a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string random_token(std::size_t chars) {
  constexpr std::string_view kAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  // Bytes from 248 up are thrown away: 248 is the largest multiple of 62 in a byte, so the rest is uniform modulo 62.
  constexpr unsigned kLimit = 256 / kAlphabet.size() * kAlphabet.size();
  std::string token;
  token.reserve(chars);
  while (token.size() < chars) {
    unsigned char bytes[64];
    fill_random(bytes);
    for (unsigned char b : bytes) {
      if (b < kLimit && token.size() < chars) token.push_back(kAlphabet[b % kAlphabet.size()]);
    }
  }
  return token;
}

}  // namespace mayfly
