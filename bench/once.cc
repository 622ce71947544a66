// What a plain worker pays for a cold start: a process is forked and executed for each request, loads the runtime,
// makes a session, runs the model once on zeros and answers. Nothing is isolated, nothing is kept. The time is from
// before the fork until the answer has arrived.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/fd.h"
#include "bench.h"
#include "runtimes/onnx/ort_api.h"

namespace mayfly::bench {
namespace {

constexpr char kAnswer = 'a';

Status run_on_zeros(const Ort& ort, const Session& s) {
  auto memory = ort.cpu_memory();
  if (!memory.ok()) return std::move(memory.error());
  std::vector<std::vector<std::byte>> data;
  std::vector<OrtOwned<OrtValue>> owned;
  std::vector<const OrtValue*> inputs;
  for (const TensorSpec& t : s.signature.inputs) {
    Shape shape = t.shape;
    for (std::size_t i = 0; i < shape.rank; ++i) shape.dims[i] = std::max<std::int64_t>(shape.dims[i], 1);
    data.emplace_back(element_count(shape).value_or(1) * dtype_size(t.dtype));
    auto value = ort.tensor_over(memory->get(), t.dtype, shape, data.back());
    if (!value.ok()) return std::move(value.error());
    inputs.push_back(value->get());
    owned.push_back(std::move(*value));
  }
  std::vector<OrtValue*> outputs(s.output_names.size(), nullptr);
  OrtStatus* status = ort.api->Run(s.session.get(), nullptr, s.input_names.data(), inputs.data(), inputs.size(),
                                   s.output_names.data(), s.output_names.size(), outputs.data());
  for (OrtValue* v : outputs) {
    if (v != nullptr) owned.push_back(ort.own(v));
  }
  return ort.check(status, "model_run_failed", "run the model");
}

Result<Fd> spawn(const std::string& library, const std::string& model, bool ort_format, pid_t& pid) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno_error(errno, "make a pipe");
  const Fd writer(ends[1]);
  Fd reader(ends[0]);
  pid = fork();
  if (pid < 0) return errno_error(errno, "fork");
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl("/proc/self/exe", "mayfly_bench", "once", library.c_str(), model.c_str(), ort_format ? "ort" : "onnx",
          nullptr);
    _exit(127);
  }
  return reader;
}

}  // namespace

Status run_once_and_answer(const std::string& library, const std::string& model, bool ort_format) {
  const Fd file(open(model.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat st{};
  if (!file.valid() || fstat(file.get(), &st) != 0) return errno_error(errno, "open " + model);
  const auto bytes = static_cast<std::size_t>(st.st_size);
  const Mapping mapped(mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.get(), 0), bytes);
  if (mapped.data() == MAP_FAILED) return errno_error(errno, "map " + model);
  auto runtime = OnnxRuntime::load(library);
  if (!runtime.ok()) return std::move(runtime.error());
  const Ort& ort = ort_of(**runtime);
  auto session = Session::create(ort, {static_cast<const std::byte*>(mapped.data()), bytes},
                                 {.threads = 1, .ort_format = ort_format});
  if (!session.ok()) return std::move(session.error());
  MAYFLY_TRY(run_on_zeros(ort, *session));
  if (write(STDOUT_FILENO, &kAnswer, 1) != 1) return errno_error(errno, "answer");
  return Ok{};
}

Result<Report> run_fork_exec(const std::string& library, const std::string& model, bool ort_format, std::size_t count) {
  Report result;
  auto& us = result.us[static_cast<std::size_t>(Outcome::kOk)];
  const std::uint64_t begin = now_ns();
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t start = now_ns();
    pid_t pid = -1;
    auto answer = spawn(library, model, ort_format, pid);
    if (!answer.ok()) return std::move(answer.error());
    char got = 0;
    const bool answered = read(answer->get(), &got, 1) == 1 && got == kAnswer;
    const std::uint64_t end = now_ns();
    int status = 0;
    waitpid(pid, &status, 0);
    if (!answered) return make_error(Code::kInternal, "worker_failed", "the worker ended with status {}", status);
    us.push_back(static_cast<float>(static_cast<double>(end - start) / 1e3));
  }
  result.seconds = static_cast<double>(now_ns() - begin) / 1e9;
  return result;
}

}  // namespace mayfly::bench
