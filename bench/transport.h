// Between the loops (load.cc) and the protocols (http1.cc, grpc.cc). A lane can hold one open request: a connection of
// HTTP/1.1, one of `streams` of a gRPC connection. A transport owns its connections and makes a new one where one
// ended.
#pragma once
#include <sys/epoll.h>

#include <functional>
#include <memory>

#include "base/fd.h"
#include "bench.h"

namespace mayfly::bench {

template <typename... A>
Error load_error(fmt::format_string<A...> f, A&&... a) {
  return make_error(Code::kUnavailable, "load_failed", f, std::forward<A>(a)...);
}

class Transport {
 public:
  // text: the body of a 200, else the start of the answer or what went wrong. The lane is free from then on; the sink
  // may not call the transport.
  using Sink = std::function<void(std::size_t lane, Outcome outcome, std::string_view text)>;

  virtual ~Transport() = default;
  virtual Status connect() = 0;  // all connections
  virtual Status start(std::size_t lane, const Case& c) = 0;
  virtual Status flush() = 0;  // sends what start() left
  virtual Status on_event(const epoll_event& e) = 0;
  virtual Status give_up(std::size_t lane) = 0;  // ends the lane's request without telling the sink
  virtual std::uint64_t reconnects() const = 0;
};

// The transports register their sockets at `epoll`, which outlives them, with the connection's number as data.
std::unique_ptr<Transport> make_http1(const LoadOptions& options, int epoll, Transport::Sink sink);
std::unique_ptr<Transport> make_grpc(const LoadOptions& options, int epoll, Transport::Sink sink);

Result<Fd> connect_loopback(std::uint16_t port);
// Adds (op EPOLL_CTL_ADD) or changes (EPOLL_CTL_MOD) what is waited for on `fd`.
Status wait_for_events(int epoll, int op, int fd, std::uint64_t number, bool write);

}  // namespace mayfly::bench
