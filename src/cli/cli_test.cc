// The pure halves of the command line: what a user writes → JSON, JSON → what a user reads, configuration.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "cli/command.h"
#include "cli/completion.h"
#include "cli/config.h"
#include "cli/deploy_steps.h"
#include "cli/spec.h"
#include "cli/table.h"
#include "cli/views.h"

namespace mayfly::cli {
namespace {

using testing::HasSubstr;

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "mayfly-cli-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name) << text;
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

TEST(Spec, HoldsOnlyWhatWasGiven) {
  EXPECT_EQ(*spec_from_flags({}), Json::object());
  DeployFlags f;
  f.memory = "512Mi";
  f.cpu = "2";
  f.min = 0;
  f.idle = "10s";
  f.top = 5;
  EXPECT_EQ(*spec_from_flags(f), Json::parse(R"({"memory":"512Mi","cpu":2,"min":0,"idle":"10s",
                                                 "output":{"classes":{"top":5}}})"));
  f.cpu = "500m";
  EXPECT_EQ((*spec_from_flags(f))["cpu"], "500m");
  f.cpu = "0.5";
  EXPECT_EQ((*spec_from_flags(f))["cpu"], 0.5);
}

TEST(Spec, LabelsFromEachForm) {
  const Json expected = {"cat", "dog"};
  EXPECT_EQ(*parse_labels("cat\r\ndog\n", "l"), expected);
  EXPECT_EQ(*parse_labels(R"(["cat","dog"])", "l"), expected);
  EXPECT_EQ(*parse_labels(R"({"1":"dog","0":"cat"})", "l"), expected);
  EXPECT_EQ(*parse_labels(R"({"0":["n1","cat"],"1":["n2","dog"]})", "l"), expected);
}

TEST(Spec, LabelsThatAreNone) {
  for (const char* text :
       {"", " \n", "[1,2]", R"({"0":"a","2":"b"})", R"({"x":"a"})", R"({"0":"a","00":"b"})", "[", "[]"}) {
    const auto r = parse_labels(text, "labels.json");
    ASSERT_FALSE(r) << text;
    EXPECT_EQ(r.error().reason, "invalid_labels") << text;
    EXPECT_THAT(r.error().message, HasSubstr("labels.json"));
  }
}

TEST(Spec, ImageInput) {
  EXPECT_EQ(*parse_image_input("resize=224,crop=center,mean=127,scale=0.0078125,layout=nchw"),
            Json::parse(R"({"resize":[224,224],"crop":"center","mean":127.0,"scale":0.0078125,"layout":"nchw"})"));
  EXPECT_EQ(*parse_image_input("resize=320x240,mean=1:2:3"),
            Json::parse(R"({"resize":[320,240],"mean":[1.0,2.0,3.0]})"));
  EXPECT_EQ(*parse_image_input(R"({"crop":"none"})"), Json::parse(R"({"crop":"none"})"));
  for (const char* text : {"resize", "resize=1x2x3", "resize=-1", "mean=1:2", "mean=x", "{", "resize=224,"}) {
    EXPECT_FALSE(parse_image_input(text)) << text;
  }
  EXPECT_THAT(parse_image_input("resise=224").error().message, HasSubstr("did you mean \"resize\"?"));
}

TEST(EndpointFile, SeveralDocuments) {
  TempDir dir;
  dir.write("labels.json", R"({"0":"a","1":"b"})");
  const auto r = parse_endpoint_file(
      "name: one\nmodel: m.onnx\nspec:\n  memory: 512Mi\n  cpu: 2\n  min: 1\n  idle: \"10\"\n"
      "  input: {image: {resize: [224, 224], mean: 127, scale: 0.0078125}}\n"
      "  output: {classes: {top: 5, labels_file: labels.json}}\n---\nname: two\nmodel: /abs/m.onnx\n",
      std::filesystem::path(dir.write("e.yaml", "")).string());
  ASSERT_TRUE(r) << r.error().message;
  ASSERT_EQ(r->size(), 2U);
  EXPECT_THAT((*r)[0].model, testing::EndsWith("/m.onnx"));
  EXPECT_EQ((*r)[0].spec, Json::parse(R"({"memory":"512Mi","cpu":2,"min":1,"idle":"10",
      "input":{"image":{"resize":[224,224],"mean":127,"scale":0.0078125}},
      "output":{"classes":{"top":5,"labels":["a","b"]}}})"));
  EXPECT_EQ((*r)[1].name, "two");
  EXPECT_EQ((*r)[1].model, "/abs/m.onnx");
  EXPECT_EQ((*r)[1].spec, Json::object());
}

TEST(EndpointFile, Mistakes) {
  const auto message = [](const char* text) { return parse_endpoint_file(text, "e.yaml").error().message; };
  EXPECT_THAT(message("name: x\nmodle: m"), HasSubstr("did you mean \"model\"?"));
  EXPECT_THAT(message("name: x"), HasSubstr("`model`"));
  EXPECT_THAT(message(""), HasSubstr("no endpoint"));
  EXPECT_THAT(message("- a"), HasSubstr("expected `name`"));
  EXPECT_THAT(message("name: [x"), HasSubstr("e.yaml"));
  EXPECT_THAT(message("name: x\nmodel: m\nspec: 3"), HasSubstr("not a mapping"));
  EXPECT_THAT(message("name: x\nmodel: m\nspec: {output: {classes: {labels_file: none.txt}}}"), HasSubstr("none.txt"));
}

TEST(EndpointFile, ExamplesAreValid) {
  const std::string path = MAYFLY_SOURCE_DIR "/examples/iris/endpoint.yaml";
  const auto text = read_file(path);
  ASSERT_TRUE(text) << text.error().message;
  const auto r = parse_endpoint_file(*text, path);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ((*r)[0].name, "iris");
}

TEST(Config, FlagThenEnvironmentThenFileThenDefault) {
  TempDir dir;
  const std::string file = dir.write("config.yaml", "server: http://file:1\nkey: file-key\n");
  const std::string none = file + ".none";
  EXPECT_EQ(resolve_connection({}, {}, none)->server, "http://127.0.0.1:8080");
  EXPECT_EQ(resolve_connection({}, {}, file)->server, "http://file:1");
  EXPECT_EQ(resolve_connection({}, {}, file)->key, "file-key");
  EXPECT_EQ(resolve_connection({}, {"env:2/", "env-key"}, file)->server, "http://env:2");
  EXPECT_EQ(resolve_connection({}, {"", "env-key"}, file)->key, "env-key");
  EXPECT_EQ(resolve_connection({"https://flag:3", "flag-key"}, {"env:2", "env-key"}, file)->server, "https://flag:3");
  EXPECT_EQ(resolve_connection({"", "flag-key"}, {"", "env-key"}, file)->key, "flag-key");
}

TEST(Config, FileKeyStaysWithItsServer) {
  TempDir dir;
  const std::string file = dir.write("config.yaml", "server: file:1\nkey: file-key\n");
  EXPECT_EQ(resolve_connection({"http://other:1", ""}, {}, file)->key, "");
  EXPECT_EQ(resolve_connection({"http://file:1/", ""}, {}, file)->key, "file-key");
}

TEST(Config, Mistakes) {
  TempDir dir;
  const auto unknown = resolve_connection({}, {}, dir.write("a.yaml", "sever: x"));
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("did you mean \"server\"?"));
  EXPECT_FALSE(resolve_connection({}, {}, dir.write("b.yaml", "- 1")));
  EXPECT_FALSE(resolve_connection({"ftp://x", ""}, {}, ""));
  EXPECT_FALSE(resolve_connection({"", "a\r\nb"}, {}, ""));
  EXPECT_EQ(default_config_path("", "/home/u"), "/home/u/.config/mayfly/config.yaml");
  EXPECT_EQ(default_config_path("/x", "/home/u"), "/x/mayfly/config.yaml");
}

TEST(Table, AlignsAndPutsNumbersRight) {
  EXPECT_EQ(render_table({"NAME", "REQUESTS", "STATE"}, {{"a", "5", "warm"}, {"longer", "12345", "cold"}}),
            "NAME    REQUESTS  STATE\na              5  warm\nlonger     12345  cold\n");
  EXPECT_EQ(render_table({"A", "B"}, {}), "A  B\n");
}

TEST(Table, Units) {
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(18'600'000), "18.6 MB");
  EXPECT_EQ(human_bytes(999'999), "1.0 MB");
  EXPECT_EQ(human_ms(999), "999 ms");
  EXPECT_EQ(human_ms(65'000), "65 s");
  EXPECT_EQ(human_ms(7'200'000), "2 h");
}

TEST(Table, TextCannotDriveTheTerminal) {
  EXPECT_EQ(printable("a\033[2Jb\rc\xC2\x9B"), "a\\x1b[2Jb\\x0dc\\x9b");
  EXPECT_EQ(printable("é\tx"), "é\tx");
}

TEST(Table, AnswersOfAnotherShapeDoNotThrow) {
  EXPECT_THAT(endpoints_table(Json::parse(R"([{"name":"x"}, 3, null])"), 0), HasSubstr("x "));
  EXPECT_THAT(endpoints_table(Json(), 0), HasSubstr("NAME"));
  EXPECT_THAT(instances_table(Json::parse(R"([{"age_ms":-4}])")), HasSubstr("0 ms"));
  EXPECT_THAT(render_deployed(Json(), Json(), "http://s", true), HasSubstr("name     -"));
}

TEST(Deployed, ShowsALineToTry) {
  const Json answer = Json::parse(R"({"name":"iris","version":2,"url":"/v2/models/iris","report":{
      "inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}],
      "outputs":[{"name":"p","datatype":"FP32","shape":[-1,3]}]}})");
  const std::string text = render_deployed(answer, Json::object(), "http://h:1", false);
  EXPECT_THAT(text, HasSubstr("url      http://h:1/v2/models/iris\n"));
  EXPECT_THAT(text, HasSubstr("input   x     FP32  [-1,4]\n"));
  EXPECT_THAT(text, HasSubstr(R"(-d '{"inputs":[{"data":[0,0,0,0],"datatype":"FP32","name":"x","shape":[1,4]}]}')"));
  const std::string picture = render_deployed(answer, Json::parse(R"({"input":{"image":{}}})"), "http://h:1", true);
  EXPECT_THAT(picture, HasSubstr("--data-binary @picture.png http://h:1/predictions/iris"));
  EXPECT_THAT(picture, HasSubstr("$MAYFLY_KEY"));
}

TEST(Client, ServerTiming) {
  const auto t = parse_server_timing("queue;dur=0.25, fork;dur=1, note;desc=x,infer;dur=2.5");
  ASSERT_EQ(t.size(), 3U);
  EXPECT_EQ(t[0], (std::pair<std::string, double>("queue", 0.25)));
  EXPECT_EQ(t[2], (std::pair<std::string, double>("infer", 2.5)));
  EXPECT_EQ(url_escape("a/b c"), "a%2Fb%20c");
}

// An answer's status ends in the same exit status by way of an Error as directly.
TEST(Client, ExitStatusSurvivesTheError) {
  for (const int status : {400, 401, 403, 404, 405, 409, 412, 413, 429, 431, 500, 501, 503, 504}) {
    Answer a;
    a.status = status;
    a.body = "not json";
    EXPECT_EQ(exit_status_for_http(http_status(error_from_answer(a))), exit_status_for_http(status)) << status;
  }
}

TEST(Completion, KnowsEveryCommand) {
  Context ctx;
  CLI::App app;
  build_app(app, ctx);
  TempDir dir;
  const std::string script = dir.write("completion.bash", bash_completion(app));
  const auto complete = [&](const std::string& line, int at) {
    const std::string command = fmt::format(
        "bash -c 'source {}; COMP_WORDS=({}); COMP_CWORD={}; _mayfly; echo \"${{COMPREPLY[*]}}\"'", script, line, at);
    std::string out;
    FILE* p = ::popen(command.c_str(), "r");
    for (int c = std::fgetc(p); c != EOF; c = std::fgetc(p)) out += static_cast<char>(c);
    EXPECT_EQ(::pclose(p), 0);
    return out;
  };
  EXPECT_EQ(complete("mayfly de", 1), "deploy delete\n");
  EXPECT_EQ(complete("mayfly keys \"\"", 2), "create list limit revoke\n");
  EXPECT_EQ(complete("mayfly keys create --sc", 3), "--scopes\n");
  EXPECT_EQ(complete("mayfly invoke x --i", 3), "--input --image\n");
  EXPECT_EQ(complete("mayfly list -o j", 3), "json\n");
  const std::string zsh = zsh_completion(app);
  EXPECT_THAT(zsh, HasSubstr("#compdef mayfly"));
  EXPECT_THAT(zsh, HasSubstr("'/keys/create'"));
}

}  // namespace
}  // namespace mayfly::cli
