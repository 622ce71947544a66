// Content-addressed, immutable files: packages/ab/abcdef… named by their SHA-256. Written by temp + fsync + rename +
// fsync of the folder, so that a name that exists is whole. All calls block: run them on the BlockingPool.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

class PackageStore {
 public:
  // An upload in progress; dropping it without finish() removes the temporary file.
  class Upload {
   public:
    virtual ~Upload() = default;
    virtual Status write(std::span<const char> bytes) = 0;  // "payload_too_large" past the limit; "disk_full"
    virtual std::string digest() = 0;          // of what was written, 64 hex digits; nothing may be written after it
    virtual Result<std::string> finish() = 0;  // digest; idempotent for content already there
    virtual std::uint64_t bytes() const = 0;
    // For bytes that come out of order: the empty file, open for reading and writing, in place of write(). Whoever has
    // filled it says with arrived() what is in it; it is theirs to have hashed it.
    virtual int file() const = 0;
    virtual void arrived(std::string digest, std::uint64_t bytes) = 0;
  };
  virtual ~PackageStore() = default;
  virtual Result<std::unique_ptr<Upload>> begin(std::uint64_t max_bytes) = 0;
  virtual Result<Fd> open(
      std::string_view digest) = 0;                    // O_RDONLY|O_CLOEXEC; "package_not_found"; digest syntax checked
  virtual Status verify(std::string_view digest) = 0;  // re-reads and hashes; "package_corrupt"
  virtual Status remove(std::string_view digest) = 0;  // open descriptors stay valid
  virtual Result<std::vector<std::string>> list() = 0;
  struct Sizes {
    std::vector<std::pair<std::string, std::uint64_t>> packages;  // digest, bytes
    std::uint64_t temporary = 0;                                  // uploads in progress
  };
  virtual Result<Sizes> sizes() = 0;
};
// Also removes what an interrupted upload left in `dir`/tmp.
Result<std::unique_ptr<PackageStore>> open_package_store(const std::string& dir);

}  // namespace mayfly
