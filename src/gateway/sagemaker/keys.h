// Which Mayfly key a caller of the SageMaker API carries. AWS's clients sign requests with an access key and a secret
// that the server can't check, since it stores no secrets; what identifies a caller is the Mayfly key in the session
// token (X-Amz-Security-Token), or as access key id in the signature's Credential. Pure.
#pragma once
#include <string_view>

#include "gateway/http.h"

namespace mayfly {

std::string_view sagemaker_key(const RequestHead& head);  // "" if there is none

}  // namespace mayfly
