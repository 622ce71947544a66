// The HTTP API as the command line uses it: one server, one key, one connection that is reused (libcurl). One owner,
// one thread; calls block. Proxies are not used for loopback, redirects are not followed (the key would travel along).
// Errors: transport → kUnavailable "server_unreachable" (exit 5) or kDeadlineExceeded "server_timeout"; an answer other
// than 2xx → the code of its status, the reason of its Mayfly-Reason header and the text of its "error".
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cli/config.h"
#include "cli/table.h"

namespace mayfly::cli {

struct Answer {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  double seconds = 0;
};

class Client {
 public:
  static Result<std::unique_ptr<Client>> create(Connection connection);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Any answer at all is a success; `path` begins with "/".
  Result<Answer> request(const char* method, const std::string& path, std::string_view body,
                         const std::string& content_type);
  // A 2xx answer that holds JSON.
  Result<Json> call(const char* method, const std::string& path, const Json& body = nullptr);
  // POSTs the bytes of a file as they are read; shows progress on a terminal after 2 s.
  Result<Json> upload(const std::string& path, const std::string& file, const std::string& shown = {});

  const std::string& server() const { return connection_.server; }
  bool has_key() const { return !connection_.key.empty(); }

 private:
  struct Impl;
  Client(Connection connection, std::unique_ptr<Impl> impl);
  Result<Answer> perform(const char* method, const std::string& path, const std::string& content_type);

  Connection connection_;
  std::unique_ptr<Impl> impl_;
};

Error error_from_answer(const Answer& answer);
std::string url_escape(std::string_view segment);  // one path segment
// "queue;dur=0.1, infer;dur=2.5" → {("queue", 0.1), ("infer", 2.5)}, milliseconds.
std::vector<std::pair<std::string, double>> parse_server_timing(std::string_view header);

}  // namespace mayfly::cli
