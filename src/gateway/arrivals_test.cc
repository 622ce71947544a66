#include "gateway/arrivals.h"

#include <gtest/gtest.h>

namespace mayfly {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(Arrivals, AnAddressWakesWhatItAsked) {
  Arrivals a;
  EXPECT_TRUE(a.connected(1, 0).empty());
  a.note(1, "t", "iris", kSecond);
  a.note(1, "t", "letter", kSecond);
  a.note(2, "t", "other", kSecond);
  const auto& wake = a.connected(1, 2 * kSecond);
  ASSERT_EQ(wake.size(), 2U);
  EXPECT_EQ(wake[0]->name, "iris");
  EXPECT_EQ(wake[1]->name, "letter");
  EXPECT_EQ(wake[0]->tenant, "t");
}

TEST(Arrivals, TheSameNameOfTwoTenantsIsTwo) {
  Arrivals a;
  a.note(1, "a", "iris", 0);
  a.note(1, "b", "iris", 0);
  EXPECT_EQ(a.connected(1, 0).size(), 2U);
}

TEST(Arrivals, IsForgottenAfterAnHour) {
  Arrivals a;
  a.note(1, "t", "iris", kSecond);
  EXPECT_EQ(a.connected(1, kSecond + Arrivals::kKeptNs).size(), 1U);
  a.note(1, "t", "iris", kSecond);
  EXPECT_TRUE(a.connected(1, kSecond + Arrivals::kKeptNs + 1).empty());
}

TEST(Arrivals, ConnectionsThatAskNothingSoonWakeNothing) {
  Arrivals a;
  a.note(1, "t", "iris", 0);
  int woken = 0;
  for (int i = 0; i < 1000; ++i) woken += static_cast<int>(a.connected(1, kSecond).size());
  EXPECT_LE(woken, 20);
  EXPECT_GE(woken, 2);
}

TEST(Arrivals, AnAddressThatAsksTwoByTurnsWakesBoth) {
  Arrivals a;
  a.note(1, "t", "iris", 0);
  a.note(1, "t", "letter", 0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(a.connected(1, kSecond).size(), 2U);
    a.note(1, "t", i % 2 == 0 ? "iris" : "letter", kSecond);
  }
}

TEST(Arrivals, ARequestInAThousandConnectionsWakesLittle) {
  Arrivals a;
  a.note(1, "t", "iris", 0);
  for (int i = 0; i < 1000; ++i) a.connected(1, kSecond);
  a.note(1, "t", "iris", kSecond);
  int woken = 0;
  for (int i = 0; i < 1000; ++i) woken += static_cast<int>(a.connected(1, kSecond).size());
  EXPECT_LE(woken, 3);
}

TEST(Arrivals, ConnectionsThatAskWakeEachTime) {
  Arrivals a;
  a.note(1, "t", "iris", 0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(a.connected(1, kSecond).size(), 1U);
    a.note(1, "t", "iris", kSecond);
  }
}

TEST(Arrivals, KeepsTheLatestAddressesAndNames) {
  Arrivals a;
  a.note(0, "t", "first", 0);
  for (std::uint64_t peer = 1; peer < Arrivals::kMaxPeers; ++peer) a.note(peer, "t", "x", peer);
  a.note(0, "t", "first", 5000);
  for (std::uint64_t peer = 0; peer < 10; ++peer) a.note(10'000 + peer, "t", "x", 6000);
  EXPECT_EQ(a.peers(), Arrivals::kMaxPeers);
  EXPECT_EQ(a.connected(0, 6000).size(), 1U);
  EXPECT_TRUE(a.connected(1, 6000).empty());
  for (std::uint64_t i = 0; i < 10; ++i) a.note(0, "t", "name" + std::to_string(i), 7000 + i);
  const auto& wake = a.connected(0, 8000);
  ASSERT_EQ(wake.size(), Arrivals::kMaxNames);
  for (const auto* name : wake) EXPECT_NE(name->name, "first");
}

}  // namespace
}  // namespace mayfly
