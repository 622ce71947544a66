#include "cli/views.h"

#include <fmt/format.h>

#include <chrono>

namespace mayfly::cli {

std::uint64_t unix_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

std::string age(const Json& object, const char* created_ms, std::uint64_t now_ms) {
  const std::uint64_t at = number(object, created_ms);
  if (at == 0) return "-";
  return human_ms(now_ms > at ? now_ms - at : 0);  // the server's clock may be ahead of ours
}

std::string endpoints_table(const Json& endpoints, std::uint64_t now_ms) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& e : endpoints) {
    rows.push_back({cell(e, "name"), cell(e, "version"), cell(e, "state"), cell(e, "ready"), cell(e, "instances"),
                    cell(e, "queued"), cell(e, "requests"), cell(e, "errors"), age(e, "created_ms", now_ms)});
  }
  return render_table({"NAME", "VERSION", "STATE", "READY", "INSTANCES", "QUEUED", "REQUESTS", "ERRORS", "AGE"}, rows);
}

std::string instances_table(const Json& instances) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& i : instances) {
    rows.push_back({cell(i, "id"), cell(i, "endpoint"), cell(i, "version"), cell(i, "pid"), cell(i, "state"),
                    human_ms(number(i, "age_ms")), human_ms(number(i, "idle_ms")), cell(i, "requests"), cell(i, "tier"),
                    human_bytes(number(i, "memory_bytes"))});
  }
  return render_table({"INSTANCE", "ENDPOINT", "VERSION", "PID", "STATE", "AGE", "IDLE", "REQUESTS", "TIER", "MEMORY"},
                      rows);
}

// "8.50 against 20.30 ms, +42.0 MB" where an instance may change to them, else "no gain".
static std::string packed_cell(const Json& report) {
  const Json& tier = member(report, "tier");
  const Json &mapped = member(tier, "mapped_ms"), &packed = member(tier, "packed_ms");
  if (!mapped.is_number() || !packed.is_number()) return "-";
  if (member(tier, "worth") != true) return "no gain";
  return fmt::format("{:.2f} against {:.2f} ms, +{}", packed.get<double>(), mapped.get<double>(),
                     human_bytes(number(tier, "packed_bytes")));
}

std::string versions_table(const Json& versions, std::uint64_t now_ms) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& v : versions) {
    const Json& report = member(v, "report");
    rows.push_back({cell(v, "number"), cell(v, "package").substr(0, 12), age(v, "created_ms", now_ms),
                    report.contains("artefact_bytes") ? human_bytes(number(report, "artefact_bytes")) : "-",
                    cell(report, "load_ms"), cell(report, "run_ms"), packed_cell(report)});
  }
  return render_table({"VERSION", "PACKAGE", "AGE", "ARTEFACT", "LOAD MS", "RUN MS", "PACKED RUNS"}, rows);
}

}  // namespace mayfly::cli
