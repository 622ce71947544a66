// Reads the content of a Source into a file: https, S3 and OCI registries through download(). Blocks: run it on a pool
// of its own. Immutable after its making; any thread.
//
// An OCI manifest names layers; the one that is the model is taken (`choose_layer`): the one whose title was asked for,
// else the only one that ends in a model's suffix, else the only raw layer. Archives are refused: nothing is unpacked
// in the server. Registries are asked without credentials, with a token where they demand one. Errors: those of
// Transport and download(), source_ambiguous, source_unsupported, invalid_source.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fetch/download.h"
#include "fetch/source.h"
#include "fetch/transport.h"

namespace mayfly {

struct FetchOptions {
  TransportOptions transport;
  S3Credentials s3;
  std::string s3_endpoint;  // "http://127.0.0.1:7070"; empty: AWS's of the region
};

class Fetcher {
 public:
  // Allows the host of s3_endpoint. Errors: invalid_source.
  static Result<std::unique_ptr<Fetcher>> create(FetchOptions options);
  explicit Fetcher(FetchOptions options) : options_(std::move(options)), transport_(options_.transport) {}

  // `fd`: an empty file, open for reading and writing.
  Result<Downloaded> fetch(const Source& source, int fd, std::uint64_t max_bytes,
                           const std::atomic<bool>* cancelled = nullptr) const;
  // Errors: source_not_allowed, without asking anybody, where that can be known.
  Status check(const Source& source) const;

  const Transport& transport() const { return transport_; }
  const S3Credentials& s3() const { return options_.s3; }
  Result<HttpUrl> s3_url(std::string_view bucket, std::string_view key) const;

 private:
  Result<DownloadRequest> oci_request(const Source& source) const;
  Result<std::string> oci_manifest(const Source& s, const std::string& root, std::string& authorization) const;
  Result<std::string> oci_token(const Source& s, std::string_view challenge) const;
  FetchOptions options_;
  Transport transport_;
};

struct OciLayer {
  std::string media_type, digest, title;
  std::uint64_t bytes = 0;
};
// The layer of an OCI manifest that is the model. Exposed for the tests.
Result<OciLayer> choose_layer(std::string_view manifest_json, const Source& source);
// realm, service and scope of a WWW-Authenticate header "Bearer …"; the address to ask for a token.
Result<std::string> token_url(std::string_view challenge, std::string_view repository);

// The variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION (or AWS_DEFAULT_REGION) and
// AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL), from the environment or, as NAME=VALUE lines, from a file.
void s3_from_environment(FetchOptions& options);
Status s3_from_file(const std::string& path, FetchOptions& options);
// Overwrites the credentials where the kernel shows a process's environment, so that neither a fork nor /proc has them.
void wipe_s3_environment();

}  // namespace mayfly
