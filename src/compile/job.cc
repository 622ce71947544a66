#include "compile/job.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tensor/json_parse.h"

namespace mayfly {
namespace {

constexpr std::size_t kReportBytes = 1 << 20;
constexpr std::uint64_t kMaxArtefactBytes = 1ULL << 40;

class Job final : public SandboxListener {
 public:
  void on_started(int, std::string_view) override {}
  void on_ended(const LaunchEvent& event, bool refused) override { ended.set({event, refused}); }
  OneShot<std::pair<LaunchEvent, bool>> ended;
};

Task<void> kill_after(LauncherClient* launcher, std::uint64_t id, std::shared_ptr<Timer> timer,
                      std::shared_ptr<bool> timed_out) {
  auto [ec] = co_await timer->async_wait(use_result);
  if (ec) co_return;
  *timed_out = true;
  launcher->end(id);
}

Error describe_failure(const LaunchEvent& e, bool refused, bool timed_out, const CompileLimits& l) {
  if (refused) return make_error(Code::kUnavailable, "compile_failed", "cannot start the compile job: {}", e.text);
  if (timed_out) return invalid("compile_timeout", "compiling the model took longer than {} s", l.timeout_ms / 1000);
  if (e.oom_kills > 0)
    return invalid("compile_out_of_memory", "compiling the model needs more than {} MiB", l.memory_bytes >> 20);
  if (WIFSIGNALED(e.wait_status)) {
    return invalid("invalid_model", "the model crashed the compile job (signal {}: {})", WTERMSIG(e.wait_status),
                   strsignal(WTERMSIG(e.wait_status)));
  }
  return invalid("compile_failed", "the compile job ended with status {} and no report", WEXITSTATUS(e.wait_status));
}

constexpr char kRowsIndependent[] = "rows_independent";

bool flag(const nlohmann::json& doc, const char* key) {
  return doc.is_object() && doc.contains(key) && doc[key].is_boolean() && doc[key].get<bool>();
}

std::uint64_t bytes(const nlohmann::json& doc, const char* key) {
  return doc.contains(key) && doc[key].is_number_unsigned() ? doc[key].get<std::uint64_t>() : 0;
}

// Clamped to what can be.
policy::TierPlan tier_plan(const nlohmann::json& doc) {
  constexpr double kMaxMs = 1e6, kMaxBytes = 1e13;
  policy::TierPlan plan;
  if (!doc.is_object() || !doc.contains("tier")) return plan;
  const nlohmann::json& tier = doc["tier"];
  const auto number = [&](const char* key, double high) {
    const auto at = tier.find(key);
    return at != tier.end() && at->is_number() ? std::clamp(at->get<double>(), 0.0, high) : 0.0;
  };
  if (!flag(tier, "worth")) return plan;
  const double gain_ms = number("mapped_ms", kMaxMs) - number("packed_ms", kMaxMs);
  plan.allowed = gain_ms > 0;
  plan.gain_ns = static_cast<std::uint64_t>(std::max(gain_ms, 0.0) * 1e6);
  plan.build_ns = static_cast<std::uint64_t>(number("packed_load_ms", kMaxMs) * 1e6);
  plan.packed_bytes = static_cast<std::uint64_t>(number("packed_bytes", kMaxBytes));
  return plan;
}

FileRanges working_set(const nlohmann::json& doc) {
  constexpr std::size_t kMaxRanges = 1024;
  FileRanges out;
  if (!doc.is_object() || !doc.contains("working_set")) return out;
  const nlohmann::json& set = doc["working_set"];
  const auto ranges = set.find("ranges");
  if (!set.is_object() || ranges == set.end() || !ranges->is_array() || ranges->size() > kMaxRanges) return out;
  std::uint64_t end = 0;
  for (const nlohmann::json& r : *ranges) {
    if (!r.is_array() || r.size() != 2 || !r[0].is_number_unsigned() || !r[1].is_number_unsigned()) return {};
    const std::uint64_t offset = r[0], bytes = r[1];
    if (offset < end || bytes > kMaxArtefactBytes || offset > kMaxArtefactBytes) return {};
    end = offset + bytes;
    out.emplace_back(offset, bytes);
  }
  return out;
}

// `text` is what `doc` was parsed from.
Result<CompileReport> figures(const nlohmann::json& doc, std::string_view text) {
  auto signature = signature_from_json(text);
  if (!signature.ok()) return std::move(signature.error());
  CompileReport report;
  report.signature = std::move(*signature);
  report.artefact_bytes = bytes(doc, "artefact_bytes");
  report.private_bytes = bytes(doc, "private_bytes");
  report.rows_independent = flag(doc, kRowsIndependent);
  report.tier = tier_plan(doc);
  report.working_set = working_set(doc);
  return report;
}

}  // namespace

Result<CompileReport> read_report(std::string_view text) {
  auto parsed = parse_json_bounded(text);
  if (!parsed.ok()) return invalid("compile_failed", "the report of the compile job: {}", parsed.error().message);
  nlohmann::json& doc = *parsed;
  if (!doc.is_object() || !doc.contains("ok") || !doc["ok"].is_boolean()) {
    return invalid("compile_failed", "the compile job left no readable report");
  }
  auto text_of = [&](const char* key) {
    std::string s = doc.contains(key) && doc[key].is_string() ? doc[key].get<std::string>() : std::string();
    if (s.size() > 2000) s.resize(2000);
    return s;
  };
  if (!doc["ok"].get<bool>()) {
    std::string reason = text_of("reason");
    for (char c : reason) {
      if ((c < 'a' || c > 'z') && c != '_') reason.clear();
    }
    return Error{Code::kInvalidArgument, reason.empty() ? "invalid_model" : reason, text_of("message")};
  }
  auto report = figures(doc, text);
  if (!report.ok()) return report;
  doc.erase("ok");
  report->json = doc.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return report;
}

Result<CompileReport> read_stored_report(std::string_view report_json) {
  auto doc = parse_json_bounded(report_json);
  if (!doc.ok()) return std::move(doc.error());
  auto report = figures(*doc, report_json);
  if (report.ok()) report->json = report_json;
  return report;
}

Task<Result<CompileReport>> compile_model(LauncherClient& launcher, int model_fd, std::uint64_t model_bytes,
                                          int artefact_fd, CompileLimits limits) {
  Fd report(memfd_create("report", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!report.valid() || ftruncate(report.get(), kReportBytes) != 0 ||
      fcntl(report.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    co_return errno_error(errno, "make a report");
  }
  Mapping text(mmap(nullptr, kReportBytes, PROT_READ, MAP_SHARED, report.get(), 0), kReportBytes);
  if (text.data() == MAP_FAILED) co_return errno_error(errno, "map a report");
  LaunchRequest rq;
  rq.kind = LaunchKind::kCompile;
  rq.id = launcher.next_id();
  rq.cpu_milli = limits.cpu_milli;
  rq.memory_bytes = limits.memory_bytes;
  rq.scratch_bytes = limits.scratch_bytes;
  rq.file_bytes = model_bytes;
  Job job;
  const int fds[] = {model_fd, report.get(), artefact_fd};
  launcher.start(rq, fds, &job);
  auto executor = co_await asio::this_coro::executor;
  auto timer = std::make_shared<Timer>(executor, std::chrono::milliseconds(limits.timeout_ms));
  auto timed_out = std::make_shared<bool>(false);
  asio::co_spawn(executor, kill_after(&launcher, rq.id, timer, timed_out), asio::detached);
  const auto [event, refused] = co_await job.ended.wait();
  timer->cancel();
  const char* begin = static_cast<const char*>(text.data());
  const std::string copy(begin, strnlen(begin, kReportBytes));
  if (refused || WIFSIGNALED(event.wait_status) || copy.empty())
    co_return describe_failure(event, refused, *timed_out, limits);
  co_return read_report(copy);
}

}  // namespace mayfly
