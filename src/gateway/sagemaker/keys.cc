#include "gateway/sagemaker/keys.h"

namespace mayfly {

std::string_view sagemaker_key(const RequestHead& head) {
  constexpr std::string_view kOurs = "mf_", kCredential = "Credential=";
  const std::string_view token = head.header("x-amz-security-token");
  if (token.starts_with(kOurs)) return token;
  std::string_view signature = head.header("authorization");
  if (!signature.starts_with("AWS4-")) return {};
  const auto at = signature.find(kCredential);
  if (at == std::string_view::npos) return {};
  signature.remove_prefix(at + kCredential.size());
  const std::string_view id = signature.substr(0, signature.find('/'));
  return id.starts_with(kOurs) ? id : std::string_view();
}

}  // namespace mayfly
