#include "launcher/client.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>

namespace mayfly {

LauncherClient::LauncherClient(Executor ex, Fd socket, std::function<void(std::string)> on_gone)
    : socket_(ex, socket.release()), on_gone_(std::move(on_gone)) {}

void LauncherClient::start(const LaunchRequest& request, std::span<const int> fds, SandboxListener* listener) {
  listeners_.emplace(request.id, listener);
  send(request, fds);
}

void LauncherClient::send(const LaunchRequest& request, std::span<const int> fds) {
  if (unsent_.empty()) {
    if (send_message(socket_.native_handle(), &request, sizeof request, fds, MSG_DONTWAIT)) return;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return on_gone_("the launcher does not answer");
    asio::co_spawn(socket_.get_executor(), send_rest(), asio::detached);
  }
  Unsent rest{request, {}};
  for (int fd : fds) rest.fds.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  unsent_.push_back(std::move(rest));
}

Task<void> LauncherClient::send_rest() {
  while (!unsent_.empty() && !closing_) {
    auto [ec] = co_await socket_.async_wait(asio::posix::descriptor_base::wait_write, use_result);
    if (ec) co_return;
    while (!unsent_.empty()) {
      std::vector<int> fds;
      for (const Fd& fd : unsent_.front().fds) fds.push_back(fd.get());
      const LaunchRequest& request = unsent_.front().request;
      if (!send_message(socket_.native_handle(), &request, sizeof request, fds, MSG_DONTWAIT)) break;
      unsent_.pop_front();
    }
  }
}

void LauncherClient::tell(LaunchKind kind, std::uint64_t id) {
  LaunchRequest request;
  request.kind = kind;
  request.id = id;
  send(request, {});
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
