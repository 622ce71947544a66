// The server's end of the launcher: sends requests, delivers events on the reactor. Owner: the node; one reactor.
// When the launcher dies the server can't make sandboxes any more: on_gone is called, and the server ends for its
// supervisor to restart.
#pragma once
#include <deque>
#include <functional>
#include <unordered_map>

#include "async/async.h"
#include "launcher/protocol.h"

namespace mayfly {

class SandboxListener {
 public:
  virtual ~SandboxListener() = default;
  // memory_file: where the kernel tells the sandbox's memory use, as the confined server sees it; may be empty.
  virtual void on_started(int pid, std::string_view memory_file) = 0;
  // Last call. `refused`: it never ran; text says why.
  virtual void on_ended(const LaunchEvent& event, bool refused) = 0;
};

class LauncherClient {
 public:
  LauncherClient(Executor ex, Fd socket, std::function<void(std::string)> on_gone);
  std::uint64_t next_id() { return next_id_++; }
  // The listener must live until on_ended. fds are duplicated by the kernel.
  void start(const LaunchRequest& request, std::span<const int> fds, SandboxListener* listener);
  void end(std::uint64_t id) { tell(LaunchKind::kEnd, id); }
  void park(std::uint64_t id) { tell(LaunchKind::kPark, id); }
  void resume(std::uint64_t id) { tell(LaunchKind::kResume, id); }
  void settle(std::uint64_t id) { tell(LaunchKind::kSettle, id); }
  void run() { asio::co_spawn(socket_.get_executor(), read_events(), asio::detached); }
  void close() {
    closing_ = true;
    socket_.close();
  }

 private:
  struct Unsent {
    LaunchRequest request;
    std::vector<Fd> fds;
  };
  void tell(LaunchKind kind, std::uint64_t id);
  void send(const LaunchRequest& request, std::span<const int> fds);
  Task<void> send_rest();
  Task<void> read_events();
  void deliver(const LaunchEvent& event);
  asio::posix::basic_stream_descriptor<Executor> socket_;
  std::function<void(std::string)> on_gone_;
  std::unordered_map<std::uint64_t, SandboxListener*> listeners_;
  std::deque<Unsent> unsent_;  // the socket was full; the reactor never blocks on the launcher, which may block on it
  std::uint64_t next_id_ = 1;
  bool closing_ = false;
};

}  // namespace mayfly
