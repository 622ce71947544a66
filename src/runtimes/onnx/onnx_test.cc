// Compile jobs and instances as the zygote runs them, less the sandbox: the instance is a forked child over a memfd
// arena.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/fd.h"
#include "runtimes/onnx/model_scan.h"
#include "runtimes/onnx/onnx_runtime.h"
#include "runtimes/onnx/top_classes.h"

namespace mayfly {
namespace {

Result<SlotResult> read_result(const ArenaView& a, std::uint32_t slot, const Signature& sig) {
  SlotResult out;
  MAYFLY_TRY(mayfly::read_result(a, slot, sig, out));
  return out;
}

constexpr int kWaitMs = 30'000;

OnnxRuntime* runtime() {
  static std::unique_ptr<OnnxRuntime> loaded = [] {
    auto r = OnnxRuntime::load(MAYFLY_DEPS_DIR "/onnxruntime/libonnxruntime.so.1.32.0");
    MAYFLY_CHECK(r.ok());
    MAYFLY_CHECK((*r)->prime().ok());
    return std::move(*r);
  }();
  return loaded.get();
}

std::string read_file(const std::string& name) {
  std::ifstream f(MAYFLY_SOURCE_DIR "/tests/models/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(f), {}};
}

std::vector<float> read_rows(const std::string& name) {
  const std::string raw = read_file(name);
  std::vector<float> rows(raw.size() / sizeof(float));
  std::memcpy(rows.data(), raw.data(), raw.size());
  return rows;
}

Fd memory_file(const std::string& content) {
  Fd fd(memfd_create("test", MFD_CLOEXEC));
  MAYFLY_CHECK(write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  return fd;
}

struct Compiled {
  int status = 0;
  std::string report;
  Fd artefact;
  std::uint64_t bytes = 0;
};

Compiled compile_bytes(const std::string& model) {
  Compiled c;
  const Fd in = memory_file(model);
  c.artefact = memory_file("");
  std::string scratch = (std::filesystem::temp_directory_path() / "mayfly_onnx_XXXXXX").string();
  MAYFLY_CHECK(mkdtemp(scratch.data()) != nullptr);
  std::vector<char> report(1 << 16);
  c.status = run_compile({.runtime = runtime(),
                          .model_fd = in.get(),
                          .model_bytes = model.size(),
                          .artefact_fd = c.artefact.get(),
                          .scratch_dir = scratch,
                          .report = report});
  std::filesystem::remove_all(scratch);
  c.report = report.data();
  c.bytes = static_cast<std::uint64_t>(lseek(c.artefact.get(), 0, SEEK_END));
  return c;
}

// A forked instance and the server's side of its arena.
class TestInstance {
 public:
  explicit TestInstance(const Compiled& c, TransformConfig transform = {}, std::uint32_t threads = 1,
                        std::uint64_t output_capacity = 1 << 20)
      : geometry_{2, 1 << 20, output_capacity}, wake_(eventfd(0, EFD_CLOEXEC)), done_(eventfd(0, EFD_CLOEXEC)) {
    void* p = mmap(nullptr, geometry_.total_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAYFLY_CHECK(p != MAP_FAILED);
    memory_ = Mapping(p, geometry_.total_bytes());
    view_ = ArenaView(p, geometry_);
    view_.header().geometry = geometry_;
    view_.header().threads = threads;
    view_.header().transform = transform;
    OnnxRuntime* rt = runtime();
    pid_ = fork();
    MAYFLY_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      _exit(run_instance({.runtime = rt,
                          .artefact_fd = c.artefact.get(),
                          .artefact_bytes = c.bytes,
                          .arena = view_,
                          .wake_fd = wake_.get(),
                          .done_fd = done_.get()}));
    }
    wait_done();
  }
  ~TestInstance() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  TestInstance(const TestInstance&) = delete;
  TestInstance& operator=(const TestInstance&) = delete;

  ArenaHeader& header() { return view_.header(); }
  SlotRequest& request() { return view_.slot(0).request; }
  std::span<std::byte> input() { return view_.input(0); }
  std::span<const std::byte> output() { return view_.output(0); }
  InstanceState state() { return static_cast<InstanceState>(header().state.load()); }
  int exit_status() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WEXITSTATUS(status);
  }

  void push(std::uint32_t slot) {
    if (!ring_push(header().submitted, slot)) return;
    const std::uint64_t one = 1;
    MAYFLY_CHECK(write(wake_.get(), &one, sizeof one) == sizeof one);
  }

  SlotResult call() {
    push(0);
    for (;;) {
      if (ring_pop(header().completed)) break;
      if (ring_prepare_sleep(header().completed)) wait_done();
    }
    SlotResult r;
    std::memcpy(&r, &view_.slot(0).result, sizeof r);
    return r;
  }

  SlotResult call_rows(std::span<const float> rows, std::initializer_list<std::int64_t> dims,
                       std::uint64_t mask = ~0ULL) {
    SlotRequest rq;
    rq.input_count = 1;
    rq.output_mask = mask;
    TensorRef& t = rq.inputs[0];
    t.dtype = static_cast<std::uint8_t>(Dtype::kFp32);
    for (const auto d : dims) t.dims[t.rank++] = d;
    t.bytes = rows.size_bytes();
    std::memcpy(input().data(), rows.data(), rows.size_bytes());
    request() = rq;
    return call();
  }

  template <typename T>
  std::vector<T> values(const TensorRef& t) {
    std::vector<T> out(t.bytes / sizeof(T));
    std::memcpy(out.data(), output().data() + t.offset, t.bytes);
    return out;
  }
  const ArenaView& view() const { return view_; }

 private:
  void wait_done() {
    pollfd p{done_.get(), POLLIN, 0};
    MAYFLY_CHECK(poll(&p, 1, kWaitMs) == 1);
    std::uint64_t n = 0;
    MAYFLY_CHECK(read(done_.get(), &n, sizeof n) == sizeof n);
  }
  ArenaGeometry geometry_;
  Fd wake_, done_;
  Mapping memory_;
  ArenaView view_;
  pid_t pid_ = -1;
};

const Compiled& compiled(const std::string& name) {
  static std::vector<std::pair<std::string, Compiled>> all;
  for (const auto& [n, c] : all)
    if (n == name) return c;
  return all.emplace_back(name, compile_bytes(read_file(name))).second;
}

// Counts right labels (output 0, INT64), `batch` rows a request.
std::size_t count_right(TestInstance& instance, const std::string& rows_name, const std::string& labels_name,
                        std::vector<std::int64_t> row_shape, std::size_t batch) {
  const auto rows = read_rows(rows_name);
  const std::string labels = read_file(labels_name);
  const std::size_t width = rows.size() / labels.size();
  std::size_t right = 0;
  for (std::size_t at = 0; at < labels.size(); at += batch) {
    const std::size_t n = std::min(batch, labels.size() - at);
    const auto part = std::span(rows).subspan(at * width, n * width);
    const auto b = static_cast<std::int64_t>(n);
    const SlotResult r = row_shape.size() == 1 ? instance.call_rows(part, {b, row_shape[0]})
                                               : instance.call_rows(part, {b, row_shape[0], row_shape[1]});
    EXPECT_EQ(r.status, SlotStatus::kOk) << r.error_text;
    EXPECT_EQ(r.output_count, 2U);
    const auto got = instance.values<std::int64_t>(r.outputs[0]);
    EXPECT_EQ(got.size(), n);
    for (std::size_t i = 0; i < got.size(); ++i) right += got[i] == static_cast<unsigned char>(labels[at + i]);
  }
  return right;
}

void expect_refused(const std::string& model, const std::string& reason) {
  const Compiled c = compile_bytes(model);
  EXPECT_NE(c.status, 0);
  EXPECT_NE(c.report.find("{\"ok\":false,\"reason\":\"" + reason + "\",\"message\":\""), std::string::npos) << c.report;
}

TEST(Compile, ReportsIris) {
  const Compiled& c = compiled("iris_logreg.onnx");
  EXPECT_EQ(c.status, 0) << c.report;
  EXPECT_NE(
      c.report.find(
          R"({"ok":true,"inputs":[{"name":"input","datatype":"FP32","shape":[-1,4]}],"outputs":[{"name":"label")"),
      std::string::npos)
      << c.report;
  EXPECT_NE(c.report.find(R"("opset":17,"runtime":"onnxruntime 1.32.0"})"), std::string::npos) << c.report;
  std::printf("%s\n%s\n%s\n", c.report.c_str(), compiled("letter_mlp.onnx").report.c_str(),
              compiled("digits_cnn.onnx").report.c_str());
}

TEST(Compile, TakesItsOwnArtefact) {
  const Compiled& c = compiled("letter_mlp.onnx");
  std::string ort(c.bytes, '\0');
  ASSERT_EQ(pread(c.artefact.get(), ort.data(), ort.size(), 0), static_cast<ssize_t>(ort.size()));
  const Compiled again = compile_bytes(ort);
  EXPECT_EQ(again.status, 0) << again.report;
  EXPECT_EQ(again.bytes, c.bytes);
}

TEST(Compile, RefusesGarbage) {
  expect_refused("this is not a model, whatever its name says", "invalid_model");
  expect_refused("", "invalid_model");
  expect_refused(std::string("\x20\0\0\0ORTM", 8) + std::string(200, 'x'), "invalid_model");
  expect_refused(std::string(300, '\xff'), "invalid_model");
  const std::string iris = read_file("iris_logreg.onnx");
  expect_refused(iris.substr(0, iris.size() / 2), "invalid_model");
}

std::string field(int number, const std::string& bytes) {  // a short length-delimited protobuf field
  std::string out;
  out += static_cast<char>(number << 3 | 2);
  MAYFLY_CHECK(number < 16 && bytes.size() < 16384);
  out += static_cast<char>(0x80 | (bytes.size() & 0x7F));
  out += static_cast<char>(bytes.size() >> 7);
  return out + bytes;
}

TEST(Compile, RefusesExternalData) {
  const std::string tensor = field(8, "w") + field(13, field(1, "location") + field(2, "weights.bin")) + "\x70\x01";
  expect_refused(field(7, field(5, tensor)), "external_data_unsupported");
}

TEST(Compile, RefusesDeepNesting) {
  std::string graph;
  for (int i = 0; i < 60; ++i) graph = field(1, field(5, field(6, graph)));
  expect_refused(field(7, graph), "model_too_complex");
}

// Model, graph and node by hand: y = SequenceConstruct(x), a type the protocol can't carry.
TEST(Compile, RefusesSequences) {
  const std::string f32 = field(1, "\x08\x01" + field(2, field(1, "\x08\x02")));
  const std::string x = field(1, "x") + field(2, f32);
  const std::string y = field(1, "y") + field(2, field(4, field(1, f32)));
  const std::string node = field(1, "x") + field(2, "y") + field(4, "SequenceConstruct");
  const std::string graph = field(1, node) + field(2, "g") + field(11, x) + field(12, y);
  expect_refused("\x08\x08" + field(7, graph) + field(8, "\x10\x0d"), "unsupported_output_type");
}

TEST(Instance, IrisAllRight) {
  TestInstance instance(compiled("iris_logreg.onnx"));
  ASSERT_EQ(instance.state(), InstanceState::kReady) << instance.header().error_text;
  EXPECT_GT(instance.header().session_ns, instance.header().mapped_ns);
  EXPECT_EQ(count_right(instance, "iris_test_x.f32", "iris_test_y.u8", {4}, 1), 45U);
  EXPECT_EQ(count_right(instance, "iris_test_x.f32", "iris_test_y.u8", {4}, 45), 45U);
  std::printf("iris: session %.3f ms\n",
              static_cast<double>(instance.header().session_ns - instance.header().mapped_ns) / 1e6);
}

TEST(Instance, LetterAccuracy) {
  TestInstance instance(compiled("letter_mlp.onnx"));
  ASSERT_EQ(instance.state(), InstanceState::kReady) << instance.header().error_text;
  EXPECT_EQ(count_right(instance, "letter_test_x.f32", "letter_test_y.u8", {16}, 250), 4709U);
  std::printf("letter: session %.3f ms\n",
              static_cast<double>(instance.header().session_ns - instance.header().mapped_ns) / 1e6);
}

TEST(Instance, DigitsAccuracy) {
  TestInstance instance(compiled("digits_cnn.onnx"));
  ASSERT_EQ(instance.state(), InstanceState::kReady) << instance.header().error_text;
  EXPECT_EQ(count_right(instance, "digits_test_x.f32", "digits_test_y.u8", {8, 8}, 100), 1773U);
  std::printf("digits: session %.3f ms\n",
              static_cast<double>(instance.header().session_ns - instance.header().mapped_ns) / 1e6);
}

TEST(Instance, ComputesOnlyWantedOutputs) {
  TestInstance instance(compiled("iris_logreg.onnx"));
  const auto rows = read_rows("iris_test_x.f32");
  const SlotResult r = instance.call_rows(std::span(rows).first(8), {2, 4}, 0b10);
  ASSERT_EQ(r.status, SlotStatus::kOk) << r.error_text;
  ASSERT_EQ(r.output_count, 1U);
  EXPECT_EQ(r.outputs[0].index, 1U);
  EXPECT_EQ(r.outputs[0].bytes, 24U);
  const auto p = instance.values<float>(r.outputs[0]);
  EXPECT_NEAR(p[0] + p[1] + p[2], 1.0, 1e-5);
  EXPECT_GT(r.run_ns, 0U);
}

TEST(Instance, ResultsPassTheServersCheck) {
  TestInstance instance(compiled("digits_cnn.onnx"));
  const auto rows = read_rows("digits_test_x.f32");
  ASSERT_EQ(instance.call_rows(std::span(rows).first(128), {2, 8, 8}).status, SlotStatus::kOk);
  Signature sig;
  sig.outputs = {{"label", Dtype::kInt64, {1, {-1}}}, {"probabilities", Dtype::kFp32, {2, {-1, 10}}}};
  const auto checked = read_result(instance.view(), 0, sig);
  ASSERT_TRUE(checked.ok()) << checked.error().message;
  EXPECT_EQ(checked->outputs[1].dims[1], 10);
}

TEST(Instance, ProbeAnswersWithoutOutputs) {
  TestInstance instance(compiled("digits_cnn.onnx"));
  instance.request() = SlotRequest{};
  instance.request().kind = RequestKind::kProbe;
  const SlotResult r = instance.call();
  EXPECT_EQ(r.status, SlotStatus::kOk) << r.error_text;
  EXPECT_EQ(r.output_count, 0U);
  EXPECT_GT(r.run_ns, 0U);
}

TEST(Instance, AnswersWrongInputsAndGoesOn) {
  TestInstance instance(compiled("iris_logreg.onnx"));
  const auto rows = read_rows("iris_test_x.f32");
  SlotResult r = instance.call_rows(std::span(rows).first(3), {1, 3});
  EXPECT_EQ(r.status, SlotStatus::kInvalidInput);
  EXPECT_NE(std::string(r.error_text).find("\"input\""), std::string::npos) << r.error_text;
  r = instance.call_rows(std::span(rows).first(4), {9, 4});  // bytes do not match the shape
  EXPECT_EQ(r.status, SlotStatus::kInvalidInput);
  instance.request() = SlotRequest{};
  r = instance.call();  // no inputs
  EXPECT_EQ(r.status, SlotStatus::kInvalidInput);
  instance.request().kind = RequestKind::kImage;
  instance.request().raw_bytes = 10;
  r = instance.call();
  EXPECT_EQ(r.status, SlotStatus::kInvalidInput);
  EXPECT_NE(std::string(r.error_text).find("takes tensors, not pictures"), std::string::npos) << r.error_text;
  EXPECT_EQ(instance.call_rows(std::span(rows).first(4), {1, 4}).status, SlotStatus::kOk);
}

TEST(Instance, SaysThatOutputsAreTooLarge) {
  TestInstance instance(compiled("letter_mlp.onnx"), {}, 1, 4096);
  const auto rows = read_rows("letter_test_x.f32");
  const SlotResult r = instance.call_rows(std::span(rows).first(1600), {100, 16});
  EXPECT_EQ(r.status, SlotStatus::kOutputTooLarge);
  EXPECT_NE(std::string(r.error_text).find("probabilities"), std::string::npos) << r.error_text;
  EXPECT_EQ(instance.call_rows(std::span(rows).first(16), {1, 16}).status, SlotStatus::kOk);
}

TEST(Instance, GivesTopClasses) {
  TransformConfig t;
  t.classes_top = 3;
  t.classes_output = 1;
  TestInstance instance(compiled("letter_mlp.onnx"), t);
  const auto rows = read_rows("letter_test_x.f32");
  SlotResult r = instance.call_rows(std::span(rows).first(16), {1, 16}, 0b01);
  ASSERT_EQ(r.status, SlotStatus::kOk) << r.error_text;
  ASSERT_EQ(r.top_count, 3U);
  ASSERT_EQ(r.output_count, 1U);
  EXPECT_EQ(r.top[0].index, static_cast<std::uint32_t>(instance.values<std::int64_t>(r.outputs[0])[0]));
  EXPECT_GE(r.top[0].score, r.top[1].score);
  EXPECT_GE(r.top[1].score, r.top[2].score);
  r = instance.call_rows(std::span(rows).first(32), {2, 16});
  EXPECT_EQ(r.status, SlotStatus::kOk);
  EXPECT_EQ(r.top_count, 0U);
}

TEST(Instance, FailsWithTextOnABrokenArtefact) {
  Compiled c;
  c.artefact = memory_file(std::string(4096, 'x'));
  c.bytes = 4096;
  TestInstance instance(c);
  EXPECT_EQ(instance.state(), InstanceState::kFailed);
  EXPECT_NE(std::string(instance.header().error_text).find("can't load the model"), std::string::npos);
  EXPECT_EQ(instance.exit_status(), 1);
}

TEST(Instance, EndsOnASlotThatIsNotThere) {
  TestInstance instance(compiled("iris_logreg.onnx"));
  ASSERT_EQ(instance.state(), InstanceState::kReady);
  instance.push(77);
  EXPECT_EQ(instance.exit_status(), 3);
}

// y = Identity(x), strings: what goes in must come out, NUL bytes and empty elements too.
TEST(Instance, CarriesStrings) {
  const std::string type = field(1, "\x08\x08" + field(2, field(1, field(2, "n"))));
  const std::string node = field(1, "x") + field(2, "y") + field(4, "Identity");
  const std::string graph = field(1, node) + field(2, "g") + field(11, field(1, "x") + field(2, type)) +
                            field(12, field(1, "y") + field(2, type));
  const Compiled c = compile_bytes("\x08\x08" + field(7, graph) + field(8, "\x10\x0d"));
  ASSERT_EQ(c.status, 0) << c.report;
  TestInstance instance(c);
  const std::string data("\3\0\0\0a\0b\0\0\0\0\5\0\0\0hello", 20);
  std::memcpy(instance.input().data(), data.data(), data.size());
  SlotRequest rq;
  rq.input_count = 1;
  rq.inputs[0].dtype = static_cast<std::uint8_t>(Dtype::kBytes);
  rq.inputs[0].rank = 1;
  rq.inputs[0].dims[0] = 3;
  rq.inputs[0].bytes = data.size();
  instance.request() = rq;
  const SlotResult r = instance.call();
  ASSERT_EQ(r.status, SlotStatus::kOk) << r.error_text;
  const auto out = instance.values<char>(r.outputs[0]);
  EXPECT_EQ(std::string(out.begin(), out.end()), data);
}

std::string big_endian(std::size_t v) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(v >> shift & 0xFF);
  return out;
}

// A PNG of size x size pixels of one colour, without checksums, which the decoder does not look at.
std::string one_colour_png(std::size_t size, std::array<char, 3> rgb) {
  std::string rows;
  for (std::size_t y = 0; y < size; ++y) {
    rows += '\0';
    for (std::size_t x = 0; x < size; ++x) rows.append(rgb.data(), 3);
  }
  std::string data(compressBound(rows.size()), '\0');
  uLongf n = data.size();
  auto* to = reinterpret_cast<Bytef*>(data.data());
  MAYFLY_CHECK(compress(to, &n, reinterpret_cast<const Bytef*>(rows.data()), rows.size()) == Z_OK);
  data.resize(n);
  auto chunk = [](const char* type, const std::string& body) { return big_endian(body.size()) + type + body + "CRC?"; };
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", big_endian(size) + big_endian(size) + std::string("\x08\x02\0\0\0", 5)) +
         chunk("IDAT", data) + chunk("IEND", "");
}

// y = Identity(x), f32[n,3,4,4]: the answer is the tensor that the transform made.
TEST(Instance, TakesPictures) {
  const std::string dims = field(1, field(2, "n")) + field(1, "\x08\x03") + field(1, "\x08\x04") + field(1, "\x08\x04");
  const std::string type = field(1, "\x08\x01" + field(2, dims));
  const std::string graph = field(1, field(1, "x") + field(2, "y") + field(4, "Identity")) + field(2, "g") +
                            field(11, field(1, "x") + field(2, type)) + field(12, field(1, "y") + field(2, type));
  const Compiled c = compile_bytes("\x08\x08" + field(7, graph) + field(8, "\x10\x0d"));
  ASSERT_EQ(c.status, 0) << c.report;
  TransformConfig t;
  t.image_input = 1;
  t.width = t.height = 4;
  t.mean[0] = 10;
  t.scale[2] = 0.5F;
  t.max_pixels = 400;
  TestInstance instance(c, t);
  auto send = [&](const std::string& picture) {
    std::memcpy(instance.input().data(), picture.data(), picture.size());
    instance.request() = SlotRequest{};
    instance.request().kind = RequestKind::kImage;
    instance.request().raw_bytes = picture.size();
    return instance.call();
  };
  SlotResult r = send(one_colour_png(20, {110, 60, 40}));
  ASSERT_EQ(r.status, SlotStatus::kOk) << r.error_text;
  const auto v = instance.values<float>(r.outputs[0]);
  ASSERT_EQ(v.size(), 48U);
  EXPECT_FLOAT_EQ(v[0], 100);
  EXPECT_FLOAT_EQ(v[16], 60);
  EXPECT_FLOAT_EQ(v[47], 20);
  r = send(one_colour_png(21, {0, 0, 0}));
  EXPECT_EQ(r.status, SlotStatus::kInvalidInput);
  EXPECT_NE(std::string(r.error_text).find("image too large: 21 x 21, limit 400 pixels"), std::string::npos)
      << r.error_text;
}

TEST(Instance, TwoThreadsAfterFork) {
  TestInstance instance(compiled("letter_mlp.onnx"), {}, 2);
  ASSERT_EQ(instance.state(), InstanceState::kReady) << instance.header().error_text;
  EXPECT_EQ(count_right(instance, "letter_test_x.f32", "letter_test_y.u8", {16}, 1000), 4709U);
}

TEST(TopClasses, OrdersTiesByIndexAndPutsNanLast) {
  std::vector<TopClass> scores = {{0, 0.5F}, {1, std::nanf("")}, {2, 0.9F}, {3, 0.5F}};
  std::array<TopClass, 4> top{};
  ASSERT_EQ(top_classes(scores, 9, top.data()), 4U);
  EXPECT_EQ(top[0].index, 2U);
  EXPECT_EQ(top[1].index, 0U);
  EXPECT_EQ(top[2].index, 3U);
  EXPECT_EQ(top[3].index, 1U);
}

TEST(Compile, TriesWhetherRowsInfluenceEachOther) {
  const auto says = [](const std::string& name) { return compiled(name).report; };
  EXPECT_NE(says("letter_mlp.onnx").find(R"("rows_independent":true)"), std::string::npos);
  EXPECT_NE(says("identity_int32.onnx").find(R"("rows_independent":true)"), std::string::npos);
  EXPECT_NE(says("rows_mixed.onnx").find(R"("rows_independent":false)"), std::string::npos);
  EXPECT_NE(says("count.onnx").find(R"("rows_independent":false)"), std::string::npos);
  EXPECT_NE(says("identity_bytes.onnx").find(R"("rows_independent":false)"), std::string::npos);
}

SlotRequest count_to(TestInstance& instance, std::int64_t n) {
  SlotRequest rq;
  rq.input_count = 1;
  TensorRef& t = rq.inputs[0];
  t.dtype = static_cast<std::uint8_t>(Dtype::kInt64);
  t.rank = 1;
  t.dims[0] = 1;
  t.bytes = sizeof n;
  std::memcpy(instance.input().data(), &n, sizeof n);
  return rq;
}

TEST(Instance, EndsARunThatIsCancelled) {
  TestInstance instance(compiled("count.onnx"));
  instance.request() = count_to(instance, 200'000);  // long enough for runs to be watched from now on
  ASSERT_EQ(instance.call().status, SlotStatus::kOk);
  instance.request() = count_to(instance, 1'000'000'000'000);  // a week
  std::thread canceller([&] {
    // Whether the run has begun or not, it ends.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    cancel_slot(instance.view(), 0);
  });
  EXPECT_EQ(instance.call().status, SlotStatus::kCancelled);
  canceller.join();
  instance.view().slot(0).cancel.store(0);
  instance.request() = count_to(instance, 3);
  const SlotResult r = instance.call();
  ASSERT_EQ(r.status, SlotStatus::kOk) << r.error_text;
  EXPECT_EQ(instance.values<float>(r.outputs[0])[0], 3.0F);
}

TEST(Instance, DoesNotBeginWhatIsCancelledBefore) {
  TestInstance instance(compiled("count.onnx"));
  instance.request() = count_to(instance, 1'000'000'000'000);
  cancel_slot(instance.view(), 0);
  EXPECT_EQ(instance.call().status, SlotStatus::kCancelled);
}

}  // namespace
}  // namespace mayfly
