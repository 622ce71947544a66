// Whole commands by run_cli against a server of one thread that answers from a table and keeps what it was asked.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <fstream>
#include <map>
#include <thread>

#include "base/fd.h"
#include "base/result.h"
#include "cli/cli.h"
#include "cli/table.h"

namespace mayfly {
namespace {

using cli::Json;
using testing::HasSubstr;

struct Seen {
  std::string line;  // "GET /path"
  std::string head;
  std::string body;
};
struct Canned {
  int status = 200;
  std::string headers;
  std::string body;
};

class TestServer {
 public:
  explicit TestServer(std::map<std::string, Canned> answers) : answers_(std::move(answers)) {
    listener_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t n = sizeof a;
    MAYFLY_CHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&a), n) == 0 && ::listen(listener_.get(), 8) == 0);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&a), &n);
    port_ = ntohs(a.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~TestServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);  // wakes accept
    thread_.join();
  }
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;
  std::string url() const { return fmt::format("http://127.0.0.1:{}", port_); }
  const std::vector<Seen>& seen() const { return seen_; }  // after the command has ended

 private:
  void run() {
    for (;;) {
      Fd c(::accept(listener_.get(), nullptr, nullptr));
      if (!c.valid()) return;
      answer(c.get());
    }
  }
  void answer(int fd) {
    std::string text;
    std::size_t end = std::string::npos;
    std::size_t want = 0;
    char buffer[4096];
    while (end == std::string::npos || text.size() < end + 4 + want) {
      const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
      if (n <= 0) return;
      text.append(buffer, static_cast<std::size_t>(n));
      end = text.find("\r\n\r\n");
      const auto length = text.find("Content-Length: ");
      if (end != std::string::npos && length < end) want = std::stoul(text.substr(length + 16));
    }
    Seen s{text.substr(0, text.find(" HTTP/")), text.substr(0, end), text.substr(end + 4)};
    const auto it = answers_.find(s.line);
    const Canned a = it != answers_.end() ? it->second : Canned{404, "", R"({"error":"no such thing"})"};
    seen_.push_back(std::move(s));
    const std::string out = fmt::format("HTTP/1.1 {} X\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{}",
                                        a.status, a.headers, a.body.size(), a.body);
    ::send(fd, out.data(), out.size(), MSG_NOSIGNAL);
  }

  std::map<std::string, Canned> answers_;
  Fd listener_;
  int port_ = 0;
  std::vector<Seen> seen_;
  std::thread thread_;
};

ServeOptions g_served;
struct Outcome {
  int status = 0;
  std::string out;
  std::string err;
};

Outcome run(std::vector<std::string> args) {
  args.insert(args.begin(), "mayfly");
  std::vector<char*> argv;
  for (auto& a : args) argv.push_back(a.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Outcome o;
  o.status = run_cli(
      static_cast<int>(argv.size()), argv.data(),
      [](const ServeOptions& s) {
        g_served = s;
        return 7;
      },
      [](bool json) { return json ? 8 : 9; });
  o.out = testing::internal::GetCapturedStdout();
  o.err = testing::internal::GetCapturedStderr();
  return o;
}

std::string file(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "mayfly-cli-" + std::to_string(::getpid()) + "-" + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

const char* const kReport = R"({"name":"iris","version":1,"url":"/v2/models/iris","report":{
  "inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}],"outputs":[],"artefact_bytes":2000,"load_ms":1.5}})";

TEST(RoundTrip, Deploy) {
  TestServer server({{"POST /admin/v1/packages", {200, "", R"({"digest":"abc","bytes":300000})"}},
                     {"POST /admin/v1/endpoints/iris/versions", {200, "", kReport}}});
  const std::string model(300'000, 'm');
  const std::string path = file("m.onnx", model);
  const auto o =
      run({"deploy", "iris", path, "--memory", "128Mi", "--min=1", "--server", server.url(), "--key", "mf_1"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("upload "));
  EXPECT_THAT(o.out, HasSubstr("artefact 2.0 kB, load 1.5 ms"));
  EXPECT_THAT(o.out, HasSubstr("version  1\n"));
  ASSERT_EQ(server.seen().size(), 2U);
  EXPECT_TRUE(server.seen()[0].body == model);
  EXPECT_THAT(server.seen()[0].head, HasSubstr("Authorization: Bearer mf_1"));
  EXPECT_EQ(Json::parse(server.seen()[1].body), Json::parse(R"({"package":"abc","spec":{"memory":"128Mi","min":1}})"));
}

TEST(RoundTrip, Apply) {
  TestServer server({{"POST /admin/v1/packages", {200, "", R"({"digest":"abc","bytes":1})"}},
                     {"POST /admin/v1/endpoints/iris/versions", {200, "", kReport}}});
  const std::string model = file("apply.onnx", "m");
  const std::string yaml = file("e.yaml", "name: iris\nmodel: " + model + "\nspec: {idle: 5s}\n");
  const auto o = run({"apply", "-f", yaml, "-o", "json", "--server", server.url()});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(Json::parse(o.out)["endpoints"][0]["package"], "abc");
  EXPECT_EQ(Json::parse(server.seen()[1].body)["spec"], Json::parse(R"({"idle":"5s"})"));
}

TEST(RoundTrip, ListGetLogsDelete) {
  TestServer server(
      {{"GET /admin/v1/endpoints",
        {200, "", R"({"endpoints":[{"name":"iris","version":3,"state":"warm","ready":1}]})"}},
       {"GET /admin/v1/endpoints/iris", {200, "", R"({"name":"iris","version":1,"state":"cold","versions":[
           {"number":1,"package":"0123456789abcdef","spec":{"min":1},"report":{"inputs":[
           {"name":"x","datatype":"FP32","shape":[-1,4]}]}}],"instances":[]})"}},
       {"GET /admin/v1/instances", {200, "", R"({"instances":[{"id":"i-1","endpoint":"iris","state":"idle"}]})"}},
       {"GET /admin/v1/endpoints/iris/logs?tail=2", {200, "", R"({"lines":["{\"a\":1}","evil \u001b[2J"]})"}},
       {"DELETE /admin/v1/endpoints/iris", {200, "", R"({"deleted":"iris"})"}}});
  const std::string s = "--server=" + server.url();
  EXPECT_THAT(run({"list", s}).out, HasSubstr("iris"));
  EXPECT_EQ(Json::parse(run({"list", s, "-o", "json"}).out)["endpoints"][0]["version"], 3);
  const auto get = run({"get", "iris", s});
  EXPECT_THAT(get.out, HasSubstr("0123456789ab"));
  EXPECT_THAT(get.out, HasSubstr("FP32  [-1,4]"));
  EXPECT_THAT(get.out, HasSubstr("\"min\": 1"));
  EXPECT_EQ(run({"logs", "iris", "--tail", "2", s}).out, "{\"a\":1}\nevil \\x1b[2J\n");
  EXPECT_EQ(run({"delete", "iris", s}).out, "deleted iris\n");
  EXPECT_THAT(run({"top", "--once", s}).out, HasSubstr("i-1"));
}

TEST(RoundTrip, Invoke) {
  TestServer server({{"POST /v2/models/iris/versions/2/infer", {200, "Server-Timing: queue;dur=0.5\r\n", R"({"a":1})"}},
                     {"POST /v2/models/iris/infer", {200, "", "{}"}},
                     {"POST /predictions/iris", {200, "", "[1]\n"}}});
  const std::string s = "--server=" + server.url();
  const auto o = run({"invoke", "iris", "--version", "2", "--input", file("r.json", R"({"inputs":[]})"), s});
  EXPECT_EQ(o.out, "{\"a\":1}\n");
  EXPECT_THAT(o.err, HasSubstr("HTTP 200"));
  EXPECT_THAT(o.err, HasSubstr("queue 0.50 ms"));
  EXPECT_EQ(run({"invoke", "iris", "--image", file("p.png", "\x89PNGxx"), s}).out, "[1]\n");
  EXPECT_EQ(run({"invoke", "iris", "--data", R"({"inputs":[]})", s}).out, "{}\n");
  EXPECT_EQ(run({"invoke", "iris", "--data", "@" + file("raw", "raw bytes"), s}).out, "[1]\n");
  EXPECT_EQ(run({"invoke", "iris", "--data", "x", "--version", "1", s}).status, 2);
  EXPECT_EQ(run({"invoke", "iris", s}).status, 2);
  ASSERT_EQ(server.seen().size(), 4U);
  EXPECT_THAT(server.seen()[1].head, HasSubstr("Content-Type: image/png"));
  EXPECT_EQ(server.seen()[3].body, "raw bytes");
}

TEST(RoundTrip, Keys) {
  TestServer server({{"POST /admin/v1/keys", {200, "", R"({"id":"k1","key":"mf_x","name":"ci","scopes":["invoke"]})"}},
                     {"GET /admin/v1/keys", {200, "", R"({"keys":[{"id":"k1","name":"ci","scopes":["a","b"],
                         "revoked":true},{"id":"k2","rate":0.5,"burst":3,"concurrency":8,"weight":2}]})"}},
                     {"PATCH /admin/v1/keys/k1", {200, "", R"({"id":"k1","name":"ci","rate":null,"burst":null,
                         "concurrency":4,"weight":1})"}},
                     {"DELETE /admin/v1/keys/k1", {200, "", R"({"revoked":"k1"})"}}});
  const std::string s = "--server=" + server.url();
  EXPECT_EQ(run({"keys", "create", "ci", "--scopes", "invoke,deploy", s}).out, "mf_x\n");
  const auto list = run({"keys", "list", s}).out;
  EXPECT_THAT(list, HasSubstr("a,b     -"));
  EXPECT_THAT(list, HasSubstr("0.5/s, burst 3, 8 at once, weight 2"));
  EXPECT_EQ(run({"keys", "limit", "k1", "--rate", "0", "--concurrency=4", s}).out, "key k1 (ci): 4 at once\n");
  EXPECT_EQ(run({"keys", "limit", "k1", s}).status, 2);
  EXPECT_EQ(run({"keys", "limit", "k1", "--rate", "many", s}).status, 2);
  EXPECT_EQ(run({"keys", "revoke", "k1", s}).out, "revoked k1\n");
  EXPECT_EQ(Json::parse(server.seen()[0].body), Json::parse(R"({"name":"ci","scopes":["invoke","deploy"]})"));
  EXPECT_EQ(Json::parse(server.seen()[2].body), Json::parse(R"({"rate":0.0,"concurrency":4})"));
  EXPECT_EQ(
      run({"keys", "create", "x", "--scopes", "invoke", "--rate", "2.5", "--burst", "9", "--weight", "3", s}).status,
      0);
  EXPECT_EQ(Json::parse(server.seen().back().body),
            Json::parse(R"({"name":"x","scopes":["invoke"],"rate":2.5,"burst":9,"weight":3})"));
}

TEST(RoundTrip, ErrorsSetTheExitStatus) {
  TestServer server({{"GET /admin/v1/endpoints/a", {401, "Mayfly-Reason: key_missing\r\n", R"({"error":"no key"})"}},
                     {"GET /admin/v1/endpoints/b", {503, "", ""}},
                     {"GET /admin/v1/endpoints/c", {200, "", "<html>"}}});
  const std::string s = "--server=" + server.url();
  const auto missing = run({"get", "x", s});
  EXPECT_EQ(missing.status, 3);
  EXPECT_EQ(missing.err, "mayfly: no such thing\n");
  const auto denied = run({"get", "a", s, "-o", "json"});
  EXPECT_EQ(denied.status, 4);
  EXPECT_EQ(Json::parse(denied.err)["reason"], "key_missing");
  EXPECT_EQ(run({"get", "b", s}).status, 5);
  EXPECT_EQ(run({"get", "c", s}).status, 1);
}

TEST(RoundTrip, NobodyListens) {
  std::string url;
  {
    url = TestServer({}).url();
  }  // a port that was free a moment ago
  const auto o = run({"list", "--server", url});
  EXPECT_EQ(o.status, 5);
  EXPECT_THAT(o.err, HasSubstr(url));
  EXPECT_THAT(o.err, HasSubstr("mayfly serve"));
}

TEST(Usage, BadUsageIsTwo) {
  EXPECT_EQ(run({}).status, 2);
  EXPECT_EQ(run({"nonsense"}).status, 2);
  EXPECT_EQ(run({"list", "-o", "xml"}).status, 2);
  EXPECT_EQ(run({"get", ""}).status, 2);
  EXPECT_THAT(run({"keys", "create"}).err, HasSubstr("mayfly keys create --help"));
  EXPECT_EQ(run({"deploy", "x", "/no/such/file", "--server", "127.0.0.1:1"}).status, 2);
  EXPECT_EQ(run({"--help"}).status, 0);
  EXPECT_THAT(run({"deploy", "--help"}).out, HasSubstr("Examples:"));
  EXPECT_THAT(run({"version"}).out, HasSubstr("mayfly "));
}

TEST(Usage, ServeAndDoctorReachTheirHooks) {
  EXPECT_EQ(run({"serve", "--listen", "127.0.0.1:0", "--data", "/d", "--drain", "5s", "--max-package", "512Mi",
                 "--tenant-quota", "1G", "--allow-weak-isolation", "--require-keys"})
                .status,
            7);
  EXPECT_EQ(g_served.listen, "127.0.0.1:0");
  EXPECT_EQ(g_served.data_dir, "/d");
  EXPECT_EQ(g_served.drain_ms, 5000U);
  EXPECT_EQ(g_served.max_package_bytes, 512ULL << 20);
  EXPECT_EQ(g_served.tenant_quota_bytes, 1'000'000'000ULL);
  EXPECT_FALSE(g_served.require_isolation);
  EXPECT_TRUE(g_served.require_keys);
  EXPECT_EQ(run({"serve", "--drain", "1m30"}).status, 2);
  EXPECT_EQ(run({"doctor"}).status, 9);
  EXPECT_EQ(run({"doctor", "-o", "json"}).status, 8);
}

}  // namespace
}  // namespace mayfly
