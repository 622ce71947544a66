// The in-process run of a model: what a prediction costs before a server adds anything.
#include <time.h>

#include <fstream>
#include <iterator>

#include "bench.h"
#include "runtimes/onnx/ort_api.h"

namespace mayfly::bench {

std::uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

namespace {

Status run_once(const Ort& ort, const Session& s, const OrtValue* input) {
  std::vector<OrtValue*> outputs(s.output_names.size(), nullptr);
  OrtStatus* status = ort.api->Run(s.session.get(), nullptr, s.input_names.data(), &input, 1, s.output_names.data(),
                                   s.output_names.size(), outputs.data());
  for (OrtValue* v : outputs) {
    if (v != nullptr) ort.own(v);
  }
  return ort.check(status, "model_run_failed", "run the model");
}

}  // namespace

Result<Report> run_floor(const std::string& library, const std::string& model, const Shape& shape, std::size_t warmup,
                         std::size_t count) {
  std::ifstream file(model, std::ios::binary);
  if (!file) return make_error(Code::kNotFound, "model_not_found", "cannot read model \"{}\"", model);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  auto runtime = OnnxRuntime::load(library);
  if (!runtime.ok()) return std::move(runtime.error());
  const Ort& ort = ort_of(**runtime);
  auto session = Session::create(ort, std::as_bytes(std::span(bytes)), {.threads = 1, .ort_format = false});
  if (!session.ok()) return std::move(session.error());
  if (session->input_names.size() != 1) return invalid("unsupported_model", "\"{}\" has more than one input", model);
  auto memory = ort.cpu_memory();
  if (!memory.ok()) return std::move(memory.error());
  std::vector<float> data(element_count(shape).value_or(0));
  auto input = ort.tensor_over(memory->get(), Dtype::kFp32, shape, std::as_writable_bytes(std::span(data)));
  if (!input.ok()) return std::move(input.error());
  for (std::size_t i = 0; i < warmup; ++i) MAYFLY_TRY(run_once(ort, *session, input->get()));
  Report result;
  auto& us = result.us[static_cast<std::size_t>(Outcome::kOk)];
  us.reserve(count);
  const std::uint64_t begin = now_ns();
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t start = now_ns();
    MAYFLY_TRY(run_once(ort, *session, input->get()));
    us.push_back(static_cast<float>(static_cast<double>(now_ns() - start) / 1e3));
  }
  result.seconds = static_cast<double>(now_ns() - begin) / 1e9;
  return result;
}

}  // namespace mayfly::bench
