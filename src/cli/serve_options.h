// What `mayfly serve` may be told on its command line; src/app turns it into a running server. A value.
// Units are in the names: bytes and milliseconds. Empty strings mean "the server's own choice".
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace mayfly {

struct ServeOptions {
  std::string data_dir = "./mayfly-data";  // the command line puts /var/lib/mayfly here if root and that folder exists
  std::string listen = "127.0.0.1:8080";
  std::string user;                 // unprivileged user to become when started as root
  bool require_isolation = true;    // refuse to start where an instance's sandbox would be incomplete
  std::uint64_t drain_ms = 30'000;  // how long a stopping server waits for running requests
  std::string runtime_dir;          // folder of the model runtime's shared library
  bool require_keys = false;        // ask for a key from loopback callers too
  std::uint64_t max_package_bytes = 4ULL << 30;
  std::uint64_t tenant_quota_bytes = 64ULL << 30;
  std::uint64_t disk_quota_bytes = 0;      // of packages and artefacts in the data folder; 0: none
  std::string packages;                    // s3://BUCKET[/PREFIX] that keeps all packages; empty: the data folder does
  std::uint64_t memory_budget_bytes = 0;   // of all instances and artefacts; 0: 80 % of the machine's
  std::string log_file;                    // empty: stderr
  std::string tls_cert;                    // PEM file, certificate first; with tls_key, both or neither
  std::string tls_key;                     // PEM file
  bool tls_allow_plain = false;            // with TLS: plain HTTP for other hosts too
  std::uint32_t max_streams = 128;         // of one HTTP/2 connection
  std::vector<std::string> allow_sources;  // HOST[:PORT] or s3://BUCKET[/PREFIX] that the server may fetch from
  std::string source_endpoint;             // of S3; empty: the environment's, else AWS's
  std::string s3_credentials;              // file of AWS_… lines; empty: the environment
  std::uint64_t source_stall_ms = 10'000;  // a fetch slower than 1 KiB/s for as long has stalled
  bool shared_memory = false;              // callers on this host may hand over tensors in POSIX shared memory
};

// Both return the exit status of the process.
using ServeFunction = int (*)(const ServeOptions&);
using DoctorFunction = int (*)(bool json);

}  // namespace mayfly
