// Packages in a bucket of S3, or of what speaks its API: objects PREFIX/DIGEST, written once, never changed or deleted.
// Blocks: run it on a pool of its own. Immutable after its making; any thread.
//
// A package of up to kMultipartBytes is one PUT, signed with its digest as the hash of its content: bytes that are not
// its own are refused by the store. A larger one goes in parts, each with its hash, after the whole was hashed here;
// the object appears when all have arrived. All is read from the file in small pieces. Exchanges are tried again as
// Transport does.
//
// Errors: package_store_unavailable (nobody answers, or the store refuses; what to look at), package_not_found,
// package_corrupt (here or there: the content has not the digest), and disk_full of a fetch.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "fetch/fetcher.h"

namespace mayfly {

inline constexpr std::uint64_t kMultipartBytes = 64ULL << 20;
inline constexpr std::uint64_t kUploadPartBytes = 16ULL << 20;
inline constexpr std::uint64_t kMostParts = 9'000;  // S3 takes 10,000; larger packages have larger parts
inline constexpr std::size_t kUploadPartsAtOnce = 4;

class Bucket {
 public:
  // `address`: s3://BUCKET[/PREFIX]. The fetcher has credentials and endpoint, and must outlive it. Errors:
  // invalid_source.
  static Result<std::unique_ptr<Bucket>> create(const Fetcher& fetcher, std::string_view address);

  // Errors: package_store_unavailable: it can't be reached, does not exist, or is not ours to read.
  Status reach() const;
  // The package is there, `bytes` long.
  Result<bool> has(std::string_view digest, std::uint64_t bytes) const;
  // Its length; package_not_found.
  Result<std::uint64_t> length(std::string_view digest) const;
  // `fd`: open for reading. True: it was sent; false: it was there.
  Result<bool> put(const std::string& digest, int fd, std::uint64_t bytes) const;
  // `fd`: an empty file, open for reading and writing. What arrives has the digest.
  Result<Downloaded> get(const std::string& digest, int fd, std::uint64_t max_bytes) const;
  std::string shown(std::string_view digest = {}) const;

  void set_sizes_for_test(std::uint64_t multipart, std::uint64_t part) {
    multipart_bytes_ = multipart;
    part_bytes_ = part;
  }

 private:
  struct Parts;
  Bucket(const Fetcher& fetcher, std::string bucket, std::string prefix)
      : fetcher_(fetcher), bucket_(std::move(bucket)), prefix_(std::move(prefix)) {}
  Result<HttpUrl> url(std::string_view digest, std::string_view query = {}) const;
  // The answer to a signed request about the package, of any status; `what`, as in "cannot write", for an error.
  Result<HttpAnswer> ask(std::string_view what, std::string_view digest, Result<HttpUrl> at, HttpRequest request) const;
  Error refused(std::string_view what, std::string_view digest, const HttpAnswer& answer) const;
  Error unavailable(std::string_view what, std::string_view digest, const Error& cause) const;
  Status put_whole(const std::string& digest, int fd, std::uint64_t bytes) const;
  Status put_parts(const std::string& digest, int fd, std::uint64_t bytes) const;
  Result<std::string> begin_parts(std::string_view digest) const;
  Status send_parts(std::string_view digest, int fd, std::string_view upload, Parts& parts) const;
  Result<std::string> send_part(std::string_view digest, int fd, std::string_view upload, const Parts& parts,
                                std::size_t index) const;
  Status complete_parts(std::string_view digest, std::string_view upload, const Parts& parts) const;

  const Fetcher& fetcher_;
  std::string bucket_, prefix_;  // prefix: empty, or with a slash at its end
  std::uint64_t multipart_bytes_ = kMultipartBytes, part_bytes_ = kUploadPartBytes;
};

}  // namespace mayfly
