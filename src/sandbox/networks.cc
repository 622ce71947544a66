#include "sandbox/networks.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace mayfly {
namespace {

Result<Fd> enter_new() {
  if (unshare(CLONE_NEWNET) != 0) return errno_error(errno, "make a network namespace");
  Fd network(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!network.valid()) return errno_error(errno, "open a network namespace");
  return network;
}

// A file of /proc that fits into `buffer`; empty where there is none.
template <std::size_t n>
std::string_view read_into(char (&buffer)[n], const char* path) {
  const Fd file(open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t got = file.valid() ? read(file.get(), buffer, n) : 0;
  return got > 0 ? std::string_view(buffer, static_cast<std::size_t>(got)) : std::string_view();
}

// Sockets of every family, also those that only a message in flight still holds.
bool no_sockets() {
  char buffer[64];
  return read_into(buffer, "/proc/thread-self/net/sockstat").starts_with("sockets: used 0\n");
}

// Two lines of headings and one for each device.
bool only_loopback() {
  char buffer[1024];
  const std::string_view devices = read_into(buffer, "/proc/thread-self/net/dev");
  std::size_t lines = 0;
  for (char c : devices) lines += c == '\n';
  return lines == 3 && devices.find("\n    lo:") != std::string_view::npos;
}

bool loopback_is_down() {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", sizeof "lo");
  return socket.valid() && ioctl(socket.get(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) == 0;
}

}  // namespace

Result<EmptyNetworks> EmptyNetworks::create() {
  auto home = enter_new();
  if (!home.ok()) return home.error();
  return EmptyNetworks(std::move(*home));
}

Result<Fd> EmptyNetworks::take() {
  if (!kept_.empty()) {
    Fd network = std::move(kept_.back());
    kept_.pop_back();
    return network;
  }
  auto network = enter_new();
  // Otherwise this process would hold it beyond its sandbox's end.
  if (setns(home_.get(), CLONE_NEWNET) != 0) return errno_error(errno, "leave a network namespace");
  return network;
}

void EmptyNetworks::give_back(Fd network) {
  if (kept_.size() < kMaxKept && is_empty(network)) kept_.push_back(std::move(network));
}

bool EmptyNetworks::is_empty(const Fd& network) const {
  if (!network.valid() || setns(network.get(), CLONE_NEWNET) != 0) return false;
  const bool empty = no_sockets() && only_loopback() && loopback_is_down();
  return setns(home_.get(), CLONE_NEWNET) == 0 && empty;
}

}  // namespace mayfly
