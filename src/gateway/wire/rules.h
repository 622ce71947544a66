// What a request has to be, whatever carries it: how methods, targets and content codings are read, which bodies are
// refused before they are read, and the errors and statuses of the transport itself. Pure; views point into the
// caller's text.
#pragma once
#include <chrono>
#include <cstdint>
#include <string_view>

#include "gateway/http.h"

namespace mayfly::wire {

// What compression may add to data that can't be compressed; more compressed bytes than this over the limit are
// refused, so that a stream of empty blocks ends.
inline constexpr std::uint64_t kCompressionSlackBytes = 64 * 1024;

Method method_of(std::string_view text);
RequestHead::Encoding encoding_of(std::string_view content_encoding);
// Visible ASCII without what no client leaves unencoded in a request target.
bool is_target(std::string_view target);
// Path and query of a target that begins with '/', '?' or nothing.
void split_target(std::string_view target, RequestHead& head);
void clear_head(RequestHead& head);  // keeps memory

// Refusals that need only the head; Code::kOk: none.
Error transport_refusal(const RequestHead& head, const BodyPolicy& policy);
// The status of an error that the transport itself found; 0: the handler's own.
int transport_status(const Error& e);

Error too_large(std::uint64_t max_bytes);
Error body_late();  // the request's deadline passed
Error body_stalled(std::chrono::milliseconds timeout);
Error client_closed();

}  // namespace mayfly::wire
