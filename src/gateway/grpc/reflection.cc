#include "gateway/grpc/reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include "gateway/grpc/call.h"
#include "grpc/health/v1/health.pb.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "grpc/reflection/v1alpha/reflection.pb.h"
#include "inference.pb.h"
#include "model_repository.pb.h"

namespace mayfly::grpc {
namespace {

namespace pb = ::google::protobuf;
// v1alpha has the same messages on the wire.
using ::grpc::reflection::v1::ServerReflectionRequest;
using ::grpc::reflection::v1::ServerReflectionResponse;

// One file of each service. Naming their messages also has the linker keep what describes them.
const pb::Descriptor* const* service_messages(std::size_t& count) {
  static const pb::Descriptor* const kMessages[] = {
      ::inference::ServerLiveRequest::descriptor(),
      ::inference::model_repository::RepositoryIndexRequest::descriptor(),
      ::grpc::health::v1::HealthCheckRequest::descriptor(),
      ::grpc::reflection::v1::ServerReflectionRequest::descriptor(),
      ::grpc::reflection::v1alpha::ServerReflectionRequest::descriptor(),
  };
  count = std::size(kMessages);
  return kMessages;
}

void not_found(std::string_view what, ServerReflectionResponse& out) {
  out.mutable_error_response()->set_error_code(static_cast<int>(Code::kNotFound));
  out.mutable_error_response()->set_error_message(fmt::format("nothing is known of \"{}\"", what.substr(0, 200)));
}

void add_file(const pb::FileDescriptor* file, std::string_view asked, ServerReflectionResponse& out) {
  if (file == nullptr) return not_found(asked, out);
  pb::FileDescriptorProto proto;
  file->CopyTo(&proto);
  proto.SerializeToString(out.mutable_file_descriptor_response()->add_file_descriptor_proto());
}

void list_services(ServerReflectionResponse& out) {
  std::size_t count = 0;
  const auto* messages = service_messages(count);
  for (std::size_t i = 0; i < count; ++i) {
    const pb::FileDescriptor* file = messages[i]->file();
    for (int s = 0; s < file->service_count(); ++s) {
      out.mutable_list_services_response()->add_service()->set_name(file->service(s)->full_name());
    }
  }
}

}  // namespace

Status answer_reflection(std::string_view message, std::string& out) {
  ServerReflectionRequest request;
  if (!request.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return invalid("malformed_message", "cannot read the request: it is no valid ServerReflectionRequest");
  }
  std::size_t count = 0;
  service_messages(count);
  const pb::DescriptorPool& pool = *pb::DescriptorPool::generated_pool();
  ServerReflectionResponse response;
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  switch (request.message_request_case()) {
    case ServerReflectionRequest::kListServices:
      list_services(response);
      break;
    case ServerReflectionRequest::kFileByFilename:
      add_file(pool.FindFileByName(request.file_by_filename()), request.file_by_filename(), response);
      break;
    case ServerReflectionRequest::kFileContainingSymbol:
      add_file(pool.FindFileContainingSymbol(request.file_containing_symbol()), request.file_containing_symbol(),
               response);
      break;
    case ServerReflectionRequest::kFileContainingExtension:
      not_found(request.file_containing_extension().containing_type(), response);  // proto3: there are none
      break;
    case ServerReflectionRequest::kAllExtensionNumbersOfType: {
      const std::string& type = request.all_extension_numbers_of_type();
      if (pool.FindMessageTypeByName(type) == nullptr)
        not_found(type, response);
      else
        response.mutable_all_extension_numbers_response()->set_base_type_name(type);
      break;
    }
    case ServerReflectionRequest::MESSAGE_REQUEST_NOT_SET:
      return invalid("malformed_message", "the reflection request asks for nothing");
  }
  response.AppendToString(&out);
  return Ok{};
}

}  // namespace mayfly::grpc
