// What the listener and all connections of one server share, whichever HTTP version they speak: the limits, the list of
// connections, the clock that a sweep sets, and the memory that all bodies take together.
//
// Owner: the listener and each connection, by shared_ptr: it outlives the listener while a handler still runs. Reactor
// thread only. Everything that lives in the list is a Member; deadlines are compared by one sweep, so that a request
// touches no timer.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "gateway/http.h"
#include "gateway/wire/buffer.h"

namespace mayfly::wire {

struct Limits {
  std::size_t max_connections = 4096;
  std::size_t max_head_bytes = 64 * 1024;
  // Of all bodies that are held whole, allocated; further ones get 503. HTTP/1 counts those over 64 KiB and decoded
  // ones; what comes to it are 128 KiB a connection at most for its head and a small body. HTTP/2 counts every body.
  // One caller's bodies take at most half of it.
  std::uint64_t max_buffered_bytes = 1ULL << 30;
  std::uint32_t max_streams = 128;                       // of one HTTP/2 connection, running handlers included
  std::chrono::milliseconds head_timeout{10'000};        // first byte of a head, or of a TLS handshake, to its last
  std::chrono::milliseconds body_timeout{30'000};        // no progress of a body, or of an answer
  std::chrono::milliseconds keep_alive_timeout{75'000};  // between requests, and before the first
  std::chrono::milliseconds linger_timeout{2'000};       // from our last byte to the client's
};

class Member {
 public:
  virtual ~Member() = default;
  virtual void expire_if_due(std::uint64_t now) = 0;
  // No further requests: what is idle closes now, the rest when it has answered.
  virtual void drain() = 0;
  virtual void abort() = 0;
  // Whether a handler works that its transport can't tell of a client that leaves, since before `ns`; then the
  // descriptor is polled, and client_gone() called.
  virtual bool handling_since_before(std::uint64_t ns) const = 0;
  virtual int native_handle() = 0;
  virtual void client_gone() = 0;
};

// Who sends a body: a key by its number, else the peer by its address (Stream::peer), of IPv6 its first 64 bits.
constexpr std::uint64_t key_caller(std::uint64_t key) { return key | 1ULL << 63; }

using EventLog = std::function<void(std::string_view event, std::string_view detail)>;

struct Core {
  Core(Executor ex, Limits l, HttpHandler& h, EventLog event_log)
      : executor(ex), limits(l), handler(h), log(std::move(event_log)), emptied(ex) {}
  Executor executor;
  const Limits limits;
  HttpHandler& handler;
  const EventLog log;  // for what happens once a connection at most; may be empty
  Event emptied;
  std::list<Member*> connections;
  std::uint64_t coarse_now_ns = 0;   // CLOCK_MONOTONIC at the last sweep
  std::string date;                  // as in the header Date, at the last sweep
  std::string date_line;             // "Date: …\r\n"
  std::uint64_t buffered_bytes = 0;  // allocated by all connections' bodies
  bool draining = false;
  bool stopped = false;

  void tick();  // sets the clock and the date
  std::uint64_t due_in(std::chrono::milliseconds timeout) const {
    return coarse_now_ns + static_cast<std::uint64_t>(timeout.count()) * 1'000'000;
  }
  // `body` to at least `capacity` bytes of `caller`'s budget. body_budget_exceeded: the budget of all bodies has not so
  // many; caller_budget_exceeded: the caller's half has not.
  Status grow(Buffer& body, std::uint64_t capacity, std::uint64_t caller);
  void free(Buffer& body);
  bool memory_is_short() const { return buffered_bytes > limits.max_buffered_bytes / 2; }

 private:
  void charge(std::uint64_t caller, std::uint64_t more, std::uint64_t less);
  std::unordered_map<std::uint64_t, std::uint64_t> held_;  // bytes by caller; those that hold some
};

// Membership in the list of connections, from construction to destruction.
class Place {
 public:
  Place(Core& core, Member* member) : core_(core), at_(core.connections.insert(core.connections.end(), member)) {}
  ~Place() {
    core_.connections.erase(at_);
    if (core_.connections.empty()) core_.emptied.notify();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

 private:
  Core& core_;
  std::list<Member*>::iterator at_;
};

}  // namespace mayfly::wire
