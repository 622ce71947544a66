#include "launcher/client.h"

#include <fcntl.h>

namespace mayfly {

LauncherClient::LauncherClient(Executor ex, Fd socket, std::function<void(std::string)> on_gone)
    : socket_(ex, socket.release()), on_gone_(std::move(on_gone)) {}

void LauncherClient::start(const LaunchRequest& request, std::span<const int> fds, SandboxListener* listener) {
  listeners_.emplace(request.id, listener);
  if (!send_message(socket_.native_handle(), &request, sizeof request, fds)) on_gone_("the launcher does not answer");
}

void LauncherClient::end(std::uint64_t id) {
  LaunchRequest request;
  request.kind = LaunchKind::kEnd;
  request.id = id;
  if (!send_message(socket_.native_handle(), &request, sizeof request, {})) on_gone_("the launcher does not answer");
}

void LauncherClient::deliver(const LaunchEvent& event) {
  auto it = listeners_.find(event.id);
  if (it == listeners_.end()) return;
  SandboxListener* listener = it->second;
  if (event.kind == LaunchEventKind::kStarted) return listener->on_started(event.pid, event.text);
  listeners_.erase(it);
  listener->on_ended(event, event.kind == LaunchEventKind::kRefused);
}

Task<void> LauncherClient::read_events() {
  while (!closing_) {
    auto [ec] = co_await socket_.async_wait(asio::posix::descriptor_base::wait_read, use_result);
    if (ec || closing_) break;
    LaunchEvent event;
    const Received got = receive_message(socket_.native_handle(), &event, sizeof event);
    if (got.bytes <= 0) break;
    event.text[sizeof event.text - 1] = '\0';
    if (got.bytes == sizeof event) deliver(event);
  }
  if (!closing_) on_gone_("the launcher has ended");
}

}  // namespace mayfly
