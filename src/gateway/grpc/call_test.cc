// Heads, frames, compression and statuses of gRPC.
#include "gateway/grpc/call.h"

#include <gtest/gtest.h>

#include "gateway/grpc/frame.h"
#include "gateway/grpc/gzip.h"
#include "gateway/grpc/reflection.h"
#include "gateway/grpc/status.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "worker_ipc/proto_wire.h"

namespace mayfly::grpc {
namespace {

using namespace std::string_literals;

RequestHead head_of(std::string_view path, std::vector<Header> headers) {
  RequestHead h;
  h.method = ::mayfly::Method::kPost;
  h.method_text = "POST";
  h.path = path;
  h.headers = std::move(headers);
  return h;
}

constexpr std::string_view kInferPath = "/inference.GRPCInferenceService/ModelInfer";

std::string reason(const RequestHead& head, Code* code = nullptr) {
  Call call;
  const Status s = read_call(head, call);
  if (s.ok()) return "ok";
  if (code != nullptr) *code = s.error().code;
  return s.error().reason;
}

TEST(GrpcCall, ContentTypes) {
  for (const char* good : {"application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"}) {
    EXPECT_TRUE(is_grpc(head_of("/", {{"content-type", good}}))) << good;
    EXPECT_EQ(reason(head_of(kInferPath, {{"content-type", good}})), "ok") << good;
  }
  for (const char* bad :
       {"application/grpc-web", "application/grpc-web+proto", "application/json", "", "application/gr"})
    EXPECT_FALSE(is_grpc(head_of("/", {{"content-type", bad}}))) << bad;
  EXPECT_FALSE(is_grpc(head_of("/", {})));
  EXPECT_TRUE(is_grpc(head_of("/", {{"content-type", "application/grpc+json"}})));
  EXPECT_EQ(reason(head_of(kInferPath, {{"content-type", "application/grpc+json"}})), "unsupported_content_type");
}

TEST(GrpcCall, MethodsAndServices) {
  Code code = Code::kOk;
  EXPECT_EQ(reason(head_of("/inference.GRPCInferenceService/Nothing", {}), &code), "unknown_method");
  EXPECT_EQ(code, Code::kUnimplemented);
  EXPECT_EQ(reason(head_of("/", {})), "unknown_method");
  RequestHead get = head_of(kInferPath, {});
  get.method = ::mayfly::Method::kGet;
  EXPECT_EQ(reason(get), "method_not_allowed");
  EXPECT_EQ(find_method(kInferPath)->rpc, Rpc::kModelInfer);
  EXPECT_TRUE(has_service("inference.GRPCInferenceService"));
  EXPECT_TRUE(has_service("grpc.health.v1.Health"));
  EXPECT_FALSE(has_service("inference"));
  EXPECT_FALSE(has_service(""));
}

TEST(GrpcCall, Timeouts) {
  const std::pair<const char*, std::uint64_t> good[] = {{"1n", 1},
                                                        {"250u", 250'000},
                                                        {"99999999m", 99'999'999'000'000},
                                                        {"3S", 3'000'000'000},
                                                        {"2M", 120'000'000'000},
                                                        {"1H", 3'600'000'000'000},
                                                        {"0S", 0}};
  for (const auto& [text, ns] : good) EXPECT_EQ(parse_timeout(text), ns) << text;
  EXPECT_EQ(parse_timeout("99999999H"), std::uint64_t{1} << 62);
  for (const char* bad : {"", "S", "1", "1s", "-1S", "1.5S", " 1S", "123456789S", "1 S"})
    EXPECT_FALSE(parse_timeout(bad)) << bad;
  Code code = Code::kOk;
  EXPECT_EQ(reason(head_of(kInferPath, {{"grpc-timeout", "soon"}}), &code), "malformed_request");
  EXPECT_EQ(code, Code::kInvalidArgument);
}

TEST(GrpcCall, Encodings) {
  Call call;
  ASSERT_TRUE(read_call(head_of(kInferPath, {{"grpc-accept-encoding", "identity, deflate, gzip"}}), call).ok());
  EXPECT_FALSE(call.gzip_answers) << "every client lists what it could read";
  ASSERT_TRUE(
      read_call(head_of(kInferPath, {{"grpc-encoding", "gzip"}, {"grpc-accept-encoding", "deflate,gzip"}}), call).ok());
  EXPECT_TRUE(call.gzip_answers);
  EXPECT_EQ(call.encoding, Encoding::kGzip);
  ASSERT_TRUE(
      read_call(head_of(kInferPath, {{"grpc-encoding", "gzip"}, {"grpc-accept-encoding", "gzipped"}}), call).ok());
  EXPECT_FALSE(call.gzip_answers);
  ASSERT_TRUE(read_call(head_of(kInferPath, {}), call).ok());
  EXPECT_EQ(call.encoding, Encoding::kIdentity) << "a call is reused";
  Code code = Code::kOk;
  EXPECT_EQ(reason(head_of(kInferPath, {{"grpc-encoding", "snappy"}}), &code), "unsupported_message_encoding");
  EXPECT_EQ(code, Code::kUnimplemented);
}

// ---- frames ----

std::string framed(std::string_view message, char flag = 0) {
  std::string s(1, flag);
  for (int shift = 24; shift >= 0; shift -= 8) s += static_cast<char>(message.size() >> shift);
  return s.append(message);
}

std::string packed(std::string_view message) {
  std::string s;
  EXPECT_TRUE(gzip(message, s));
  return s;
}

std::string only(std::string_view body, Encoding encoding = Encoding::kIdentity, std::uint64_t max = 1 << 20) {
  std::string inflated;
  auto m = only_message(body, encoding, max, inflated);
  return m.ok() ? std::string(*m) : "!" + m.error().reason;
}

TEST(GrpcFrame, OneMessage) {
  EXPECT_EQ(only(framed("abc")), "abc");
  EXPECT_EQ(only(framed("")), "");
  EXPECT_EQ(only(""), "!malformed_frame");
  EXPECT_EQ(only(framed("abc").substr(0, 4)), "!malformed_frame");
  EXPECT_EQ(only(framed("abc").substr(0, 7)), "!malformed_frame");
  EXPECT_EQ(only(framed("abc") + framed("d")), "!malformed_frame");
  EXPECT_EQ(only(framed("abc", 2)), "!malformed_frame");
  EXPECT_EQ(only(framed("abc", 1)), "!malformed_frame");
  EXPECT_EQ(only(framed("abc"), Encoding::kIdentity, 3), "abc");
  EXPECT_EQ(only(framed("abc"), Encoding::kIdentity, 2), "!payload_too_large");
  EXPECT_EQ(only("\0\xFF\xFF\xFF\xFF"s), "!payload_too_large");
}

TEST(GrpcFrame, Compressed) {
  const std::string text(100'000, 'x');
  EXPECT_EQ(only(framed(packed(text), 1), Encoding::kGzip), text);
  EXPECT_EQ(only(framed(text), Encoding::kGzip), text) << "the flag decides, message by message";
  EXPECT_EQ(only(framed(packed(text), 1), Encoding::kGzip, text.size()), text);
  EXPECT_EQ(only(framed(packed(text), 1), Encoding::kGzip, text.size() - 1), "!payload_too_large");
  EXPECT_EQ(only(framed(packed("ab") + packed("cd"), 1), Encoding::kGzip), "abcd");
  EXPECT_EQ(only(framed(packed(""), 1), Encoding::kGzip), "");
  EXPECT_EQ(only(framed(packed(text).substr(0, 30), 1), Encoding::kGzip), "!malformed_body");
  EXPECT_EQ(only(framed("", 1), Encoding::kGzip), "!malformed_body");
  EXPECT_EQ(only(framed("no gzip", 1), Encoding::kGzip), "!malformed_body");
  EXPECT_EQ(only(framed(packed("ab") + "junk", 1), Encoding::kGzip), "!malformed_body");
}

TEST(GrpcFrame, ABombStopsAtTheLimit) {
  std::string inflated;
  const std::string bomb = packed(std::string(64 << 20, '\0'));
  const auto m = only_message(framed(bomb, 1), Encoding::kGzip, 1 << 20, inflated);
  ASSERT_FALSE(m.ok());
  EXPECT_EQ(m.error().reason, "payload_too_large");
  EXPECT_EQ(m.error().code, Code::kResourceExhausted);
  EXPECT_LE(inflated.capacity(), 4U << 20);
}

TEST(GrpcFrame, WritesWhatItReads) {
  std::string out = "before";
  std::size_t at = open_frame(out);
  out += "abc";
  close_frame(out, at, true);
  EXPECT_EQ(out, "before" + framed("abc")) << "too small to compress";
  std::string large;
  at = open_frame(large);
  large.append(5000, 'y');
  close_frame(large, at, true);
  EXPECT_EQ(large[0], 1);
  EXPECT_LT(large.size(), 200U);
  EXPECT_EQ(only(large, Encoding::kGzip), std::string(5000, 'y'));
}

// A body that comes in the given pieces, or ends in an error.
class Pieces final : public BodyReader {
 public:
  explicit Pieces(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}
  Task<Result<std::span<const char>>> next() override {
    if (at_ == pieces_.size()) co_return std::span<const char>();
    const std::string& piece = pieces_[at_++];
    if (piece == "!") co_return make_error(Code::kDeadlineExceeded, "deadline_exceeded", "late");
    co_return std::span<const char>(piece.data(), piece.size());
  }

 private:
  std::vector<std::string> pieces_;
  std::size_t at_ = 0;
};

Task<void> collect(Pieces* body, Encoding encoding, std::vector<std::string>* out) {
  MessageReader reader(*body, encoding, 1000);
  for (;;) {
    auto m = co_await reader.next();
    if (!m.ok()) out->push_back("!" + m.error().reason);
    if (!m.ok() || !*m) co_return;
    out->emplace_back(**m);
  }
}

std::vector<std::string> messages(std::vector<std::string> pieces, Encoding encoding = Encoding::kIdentity) {
  asio::io_context io;
  Pieces body(std::move(pieces));
  std::vector<std::string> out;
  asio::co_spawn(io, collect(&body, encoding, &out), asio::detached);
  io.run();
  return out;
}

TEST(GrpcFrame, StreamWhateverTheSplit) {
  using Strings = std::vector<std::string>;
  const std::string all = framed("one") + framed("") + framed("three");
  const Strings want = {"one", "", "three"};
  EXPECT_EQ(messages({all}), want);
  for (std::size_t cut = 1; cut < all.size(); ++cut)
    EXPECT_EQ(messages({all.substr(0, cut), all.substr(cut)}), want) << cut;
  Strings bytes;
  for (const char c : all) bytes.emplace_back(1, c);
  EXPECT_EQ(messages(bytes), want);
  EXPECT_EQ(messages({}), Strings());
  EXPECT_EQ(messages({framed("one") + "\0\0"s}), (Strings{"one", "!malformed_frame"}));
  EXPECT_EQ(messages({framed("one"), "!"}), (Strings{"one", "!deadline_exceeded"}));
  EXPECT_EQ(messages({framed(std::string(1001, 'x'))}), Strings{"!payload_too_large"});
  EXPECT_EQ(messages({framed(packed("zip"), 1) + framed("plain")}, Encoding::kGzip), (Strings{"zip", "plain"}));
}

// ---- statuses ----

TEST(GrpcStatus, PercentEncoding) {
  EXPECT_EQ(percent_encode("plain ~text!"), "plain ~text!");
  EXPECT_EQ(percent_encode("100%\r\n\x7F\xC3\xA9"), "100%25%0D%0A%7F%C3%A9");
}

TEST(GrpcStatus, Base64WithoutPadding) {
  const std::pair<const char*, const char*> cases[] = {{"", ""},        {"f", "Zg"},        {"fo", "Zm8"},
                                                       {"foo", "Zm9v"}, {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}};
  for (const auto& [in, out] : cases) EXPECT_EQ(base64(in), out);
  EXPECT_EQ(base64("\xFF\xFE\xFD"), "//79");
}

TEST(GrpcStatus, LinesOfAnError) {
  Response rs;
  rs.body = "half an answer";
  rs.headers = "x-request-id: 1\r\n";
  render_error(make_error(Code::kResourceExhausted, "queue_full", "full: 100%"), rs);
  EXPECT_EQ(rs.status, 200);
  EXPECT_EQ(rs.content_type, "application/grpc");
  EXPECT_EQ(rs.body, "");
  EXPECT_EQ(rs.headers, "x-request-id: 1\r\n");
  std::string retry;
  append_bytes_field(retry, 1, "\x08\x01");
  std::string info, any_info, any_retry, status;
  append_bytes_field(info, 1, "queue_full");
  append_bytes_field(info, 2, "mayfly");
  append_bytes_field(any_info, 1, "type.googleapis.com/google.rpc.ErrorInfo");
  append_bytes_field(any_info, 2, info);
  append_bytes_field(any_retry, 1, "type.googleapis.com/google.rpc.RetryInfo");
  append_bytes_field(any_retry, 2, retry);
  append_varint_field(status, 1, 8);
  append_bytes_field(status, 2, "full: 100%");
  append_bytes_field(status, 3, any_info);
  append_bytes_field(status, 3, any_retry);
  EXPECT_EQ(rs.trailers,
            "grpc-status: 8\r\ngrpc-message: full: 100%25\r\nmayfly-reason: queue_full\r\n"
            "grpc-retry-pushback-ms: 1000\r\ngrpc-status-details-bin: " +
                base64(status) + "\r\n");
}

TEST(GrpcStatus, CodesAreTheirOwnButForSizes) {
  for (int code = 1; code <= 16; ++code)
    EXPECT_EQ(code_of(Error{static_cast<Code>(code), "any", ""}), static_cast<Code>(code));
  EXPECT_EQ(code_of(invalid("payload_too_large", "")), Code::kResourceExhausted);
}

TEST(GrpcStatus, LongAndBrokenTextStaysBoundedAndValid) {
  std::string lines;
  append_status(lines, invalid("invalid_value", "{}\xFF{}", std::string(kMaxMessageText - 2, 'a'), "\xC3\xA9"));
  EXPECT_NE(lines.find("a%EF%BF%BD%EF%BF%BD\r\n"), std::string::npos) << lines;
  EXPECT_LT(lines.size(), 4 * kMaxMessageText);
}

TEST(GrpcReflection, FilesSymbolsAndServices) {
  using ::grpc::reflection::v1::ServerReflectionRequest;
  using ::grpc::reflection::v1::ServerReflectionResponse;
  const auto ask = [](const ServerReflectionRequest& rq) {
    std::string out;
    EXPECT_TRUE(answer_reflection(rq.SerializeAsString(), out).ok());
    ServerReflectionResponse rs;
    EXPECT_TRUE(rs.ParseFromString(out));
    return rs;
  };
  ServerReflectionRequest rq;
  rq.set_list_services("");
  std::vector<std::string> names;
  const auto services = ask(rq);
  for (const auto& s : services.list_services_response().service()) names.push_back(s.name());
  EXPECT_EQ(names, (std::vector<std::string>{"inference.GRPCInferenceService",
                                             "inference.model_repository.ModelRepositoryService",
                                             "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                             "grpc.reflection.v1alpha.ServerReflection"}));
  for (const std::string& name : names) {
    EXPECT_TRUE(has_service(name)) << name;
    rq.set_file_containing_symbol(name);
    EXPECT_EQ(ask(rq).file_descriptor_response().file_descriptor_proto_size(), 1) << name;
  }
  rq.set_file_by_filename("model_config.proto");
  EXPECT_EQ(ask(rq).file_descriptor_response().file_descriptor_proto_size(), 1);
  rq.set_file_by_filename("etc/passwd");
  EXPECT_EQ(ask(rq).error_response().error_code(), 5);
  rq.set_file_containing_symbol("inference.Nothing");
  EXPECT_EQ(ask(rq).error_response().error_code(), 5);
  std::string out;
  EXPECT_EQ(answer_reflection("", out).error().reason, "malformed_message");
  EXPECT_EQ(answer_reflection("\xFF", out).error().reason, "malformed_message");
}

}  // namespace
}  // namespace mayfly::grpc
