#include "app/fetch_setup.h"

#include <cstdlib>
#include <fstream>

namespace mayfly {
namespace {

constexpr std::size_t kMaxPem = 4 << 20;
constexpr std::size_t kMaxResolverFile = 64 * 1024;
constexpr char kSystemAuthorities[] = "/etc/ssl/certs/ca-certificates.crt";

std::string read_up_to(const std::string& path, std::size_t max) {
  std::ifstream in(path, std::ios::binary);
  std::string out(max, '\0');
  in.read(out.data(), static_cast<std::streamsize>(max));
  out.resize(static_cast<std::size_t>(in.gcount()));
  return out;
}

}  // namespace

Result<FetchOptions> fetch_options(const ServeOptions& options) {
  FetchOptions out;
  s3_from_environment(out);
  wipe_s3_environment();
  if (!options.s3_credentials.empty()) MAYFLY_TRY(s3_from_file(options.s3_credentials, out));
  if (!options.source_endpoint.empty()) out.s3_endpoint = options.source_endpoint;
  for (const std::string& rule : options.allow_sources) MAYFLY_TRY(out.transport.policy.allow(rule));
  out.transport.stall_ms = options.source_stall_ms;
  const char* authorities = std::getenv("SSL_CERT_FILE");
  out.transport.ca_pem = read_up_to(authorities != nullptr ? authorities : kSystemAuthorities, kMaxPem);
  Transport::global_init();
  return out;
}

std::vector<SmallFile> resolver_files() {
  std::vector<SmallFile> out = {{"/etc/nsswitch.conf", "hosts: files dns\n"}};
  for (const char* path : {"/etc/resolv.conf", "/etc/hosts"}) {
    std::string content = read_up_to(path, kMaxResolverFile);
    if (!content.empty()) out.push_back({path, std::move(content)});
  }
  return out;
}

}  // namespace mayfly
