#include "control/fetches.h"

#include <algorithm>

#include "tensor/json.h"

namespace mayfly {

Task<Result<std::string>> Fetches::package_of(std::string tenant, std::string source) {
  auto parsed = parse_source(source);
  if (!parsed.ok()) co_return parsed.error();
  if (auto st = fetcher_.check(*parsed); !st.ok()) co_return st.error();
  const std::string key = tenant + '\n' + source;
  auto work = [this, &tenant, &parsed] { return fetch(tenant, std::move(*parsed)); };
  co_return co_await under_way_.run(key, work);
}

Task<Result<std::string>> Fetches::fetch(const std::string& tenant, Source source) {
  auto left = co_await artefacts_.quota_left(tenant);
  if (!left.ok()) co_return left.error();
  if (*left == 0) co_return artefacts_.over_quota(tenant);
  const std::uint64_t limit = std::min(*left, options_.max_package_bytes);
  auto upload = packages_.begin(limit);
  if (!upload.ok()) co_return upload.error();
  const std::uint64_t since = now_ns();
  auto read = [this, &source, &upload, limit] { return fetcher_.fetch(source, (*upload)->file(), limit); };
  auto got = co_await pool_.run(read);
  if (!got.ok()) co_return got.error();
  log_fetched(source, *got, since);
  (*upload)->arrived(got->sha256, got->bytes);
  co_return co_await artefacts_.accept(**upload, tenant);
}

void Fetches::log_fetched(const Source& source, const Downloaded& got, std::uint64_t since_ns) {
  std::string line = fmt::format(R"({{"time":"{}","event":"fetched","source":)", Log::timestamp());
  append_json_string(line, source.shown);
  line += fmt::format(R"(,"sha256":"{}","bytes":{},"ms":{},"requests":{},"retries":{}}})", got.sha256, got.bytes,
                      (now_ns() - since_ns) / 1'000'000, got.requests, got.retries);
  log_.event("", line);
}

}  // namespace mayfly
