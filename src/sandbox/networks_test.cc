// Needs root. Each test runs in a child: what takes networks leaves the one that it was in.
#include "sandbox/networks.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cstring>
#include <functional>

#include "base/in_child.h"

namespace mayfly {
namespace {

ino_t number(const Fd& network) {
  struct stat st{};
  return fstat(network.get(), &st) == 0 ? st.st_ino : 0;
}

// Whether `dirty`, run by another process inside it, keeps a network from being given out again. The process is still
// there when the network is given back, if it waits.
bool used_again_after(const std::function<void()>& dirty, bool wait_for_its_end = true) {
  auto networks = EmptyNetworks::create();
  if (!networks.ok()) return false;
  auto network = networks->take();
  if (!network.ok()) return false;
  const ino_t first = number(*network);
  int ready[2];
  if (pipe(ready) != 0) return false;
  const pid_t pid = fork();
  if (pid == 0) {
    if (setns(network->get(), CLONE_NEWNET) == 0) dirty();
    close(ready[0]);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    if (!wait_for_its_end) pause();
    _exit(0);
  }
  char c = 0;
  if (read(ready[0], &c, 1) != 1) return false;
  if (wait_for_its_end) waitpid(pid, nullptr, 0);
  networks->give_back(std::move(*network));
  auto again = networks->take();
  if (!wait_for_its_end) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  return again.ok() && number(*again) == first;
}

class Networks : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

TEST_F(Networks, OneInWhichNothingHappenedIsGivenOutAgain) {
  EXPECT_EQ(in_child([] { return used_again_after([] {}); }), 0);
}

TEST_F(Networks, TwoThatAreOutAtOnceAreNeverTheSame) {
  EXPECT_EQ(in_child([] {
              auto networks = EmptyNetworks::create();
              auto a = networks->take(), b = networks->take();
              const bool differ = number(*a) != number(*b);
              networks->give_back(std::move(*a));
              auto c = networks->take(), d = networks->take();
              return differ && number(*c) != number(*d) && number(*d) != number(*b) && number(*c) != number(*b);
            }),
            0);
}

TEST_F(Networks, OneWithASocketLeftIsNot) {
  for (int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET}) {
    auto open_socket = [family] {
      if (socket(family, SOCK_DGRAM, 0) < 0) _exit(1);
    };
    EXPECT_EQ(in_child([&] { return !used_again_after(open_socket, false); }), 0) << family;
  }
}

// The name stays taken as long as a message in flight holds the socket.
TEST_F(Networks, OneWithAnAbstractNameLeftIsNot) {
  auto bind_name = [] {
    const int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, "\0left", 5);
    bind(s, reinterpret_cast<sockaddr*>(&name), offsetof(sockaddr_un, sun_path) + 5);
  };
  EXPECT_EQ(in_child([&] { return !used_again_after(bind_name, false); }), 0);
}

TEST_F(Networks, OneWhoseLoopbackIsUpIsNot) {
  auto up = [] {
    const int s = socket(AF_INET, SOCK_DGRAM, 0);
    ifreq request{};
    std::memcpy(request.ifr_name, "lo", sizeof "lo");
    request.ifr_flags = IFF_UP;
    if (ioctl(s, SIOCSIFFLAGS, &request) != 0) _exit(1);
  };
  EXPECT_EQ(in_child([&] { return !used_again_after(up); }), 0);
}

// Without /proc nothing can be known.
TEST_F(Networks, OneOfWhichNothingIsKnownIsNot) {
  EXPECT_EQ(in_child([] {
              auto networks = EmptyNetworks::create();
              auto network = networks->take();
              if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
                  mount("none", "/proc", "tmpfs", 0, nullptr) != 0)
                return true;  // not in this place
              networks->give_back(std::move(*network));
              return networks->kept() == 0;
            }),
            0);
}

TEST_F(Networks, NoMoreAreKeptThanTheLimit) {
  EXPECT_EQ(in_child([] {
              auto networks = EmptyNetworks::create();
              std::vector<Fd> out;
              for (std::size_t i = 0; i < EmptyNetworks::kMaxKept + 3; ++i) out.push_back(std::move(*networks->take()));
              for (Fd& network : out) networks->give_back(std::move(network));
              return networks->kept() == EmptyNetworks::kMaxKept;
            }),
            0);
}

}  // namespace
}  // namespace mayfly
