#include "iam/keys.h"

#include <gmock/gmock.h>

#include <optional>

namespace mayfly {
namespace {

using ::testing::HasSubstr;
constexpr std::uint64_t kSecond = 1'000'000'000;

struct Made {
  std::string id, authorization;
};
Made add(KeyRing& ring, const KeyLimits& limits = {}, const std::vector<std::string>& scopes = {"invoke"}) {
  auto key = make_key("default", "ci", scopes, 1);
  EXPECT_TRUE(key.ok());
  key->row.limits = limits;
  ring.add(key->row);
  return {key->row.id, "Bearer " + key->secret_text};
}
KeyState* state(KeyRing& ring, const Made& key) {
  auto p = ring.authenticate(key.authorization, "");
  EXPECT_TRUE(p.ok());
  return p.ok() ? p->key : nullptr;
}

TEST(KeyRing, KnowsItsKeysAndNoOthers) {
  KeyRing ring(true);
  const Made one = add(ring), two = add(ring, {}, {"deploy", "admin"});
  auto p = ring.authenticate(one.authorization, "");
  ASSERT_TRUE(p.ok());
  EXPECT_EQ(p->key_id, one.id);
  EXPECT_EQ(p->scopes, kInvoke);
  EXPECT_EQ(ring.authenticate("", two.authorization.substr(7))->scopes, kDeploy | kAdmin);
  std::string wrong = one.authorization;
  wrong.back() = wrong.back() == 'a' ? 'b' : 'a';
  std::string of_the_other = one.authorization;
  of_the_other.replace(10, 12, two.id);
  for (const std::string& text : {wrong, of_the_other, std::string("Bearer x"), one.authorization + "x"}) {
    EXPECT_EQ(ring.authenticate(text, "").error().reason, "invalid_key") << text;
  }
  EXPECT_EQ(ring.authenticate("", "").error().reason, "missing_key");
}

TEST(KeyRing, ARevokedKeyIsRefusedAndItsRequestsGoOn) {
  KeyRing ring(true);
  const Made key = add(ring, {.concurrency = 2});
  auto use = KeyUse::begin(state(ring, key), 1);
  ASSERT_TRUE(use.ok());
  ring.revoke(key.id);
  EXPECT_FALSE(ring.authenticate(key.authorization, "").ok());
  for (int i = 0; i < 1000; ++i) add(ring);  // the map grows; the state stays where it is
  EXPECT_EQ(ring.find(key.id)->under_way, 1U);
  use->end(2);
  EXPECT_EQ(ring.find(key.id)->under_way, 0U);
  EXPECT_EQ(ring.active(), 1000U);
}

TEST(KeyRing, EachKeyIsAFlowOfItsOwnWithItsWeight) {
  KeyRing ring(false);
  const Made one = add(ring, {.weight = 7}), two = add(ring);
  auto p = ring.authenticate(one.authorization, ""), q = ring.authenticate(two.authorization, "");
  auto anyone = ring.authenticate("", "");
  EXPECT_EQ(p->weight(), 7U);
  EXPECT_EQ(q->weight(), 1U);
  EXPECT_EQ(anyone->weight(), 1U);
  EXPECT_EQ(anyone->flow(), 0U);
  EXPECT_NE(p->flow(), q->flow());
  EXPECT_NE(p->flow(), 0U);
  EXPECT_NE(q->flow(), 0U);
}

TEST(KeyLimits, BoundsAreInclusiveAndNamed) {
  for (const KeyLimits& l : {KeyLimits{}, KeyLimits{0.001, 0, 0, 1}, KeyLimits{1e6, 1'000'000, 100'000, 100}}) {
    EXPECT_TRUE(check_limits(l).ok());
  }
  const std::pair<KeyLimits, const char*> wrong[] = {
      {{0.0009, 0, 0, 1}, "rate is 0.0009"},
      {{-1, 0, 0, 1}, "rate is -1"},
      {{1'000'001, 0, 0, 1}, "rate is 1000001"},
      {{1, 1'000'001, 0, 1}, "burst is 1000001"},
      {{0, 5, 0, 1}, "burst is 5 without a rate"},
      {{0, 0, 100'001, 1}, "concurrency is 100001"},
      {{0, 0, 0, 0}, "weight is 0; possible are 1 to 100"},
      {{0, 0, 0, 101}, "weight is 101"},
  };
  for (const auto& [limits, text] : wrong) {
    const Status s = check_limits(limits);
    ASSERT_FALSE(s.ok()) << text;
    EXPECT_EQ(s.error().reason, "invalid_limit");
    EXPECT_THAT(s.error().message, HasSubstr(text));
  }
}

TEST(KeyLimits, WithoutABurstThatOfASecondIsInForce) {
  EXPECT_EQ(burst_of({}), 0U);
  EXPECT_EQ(burst_of({.rate = 0.5}), 1U);
  EXPECT_EQ(burst_of({.rate = 2.1}), 3U);
  EXPECT_EQ(burst_of({.rate = 100, .burst = 7}), 7U);
}

TEST(KeyUse, WithoutAKeyOrLimitsNothingIsRefused) {
  KeyRing ring(false);
  KeyState* key = state(ring, add(ring));
  std::vector<KeyUse> uses;
  for (int i = 0; i < 100; ++i) {
    auto anyone = KeyUse::begin(nullptr, 1), use = KeyUse::begin(key, 1);
    ASSERT_TRUE(anyone.ok() && use.ok());
    EXPECT_FALSE(use->timed());
    uses.push_back(std::move(*use));
  }
  EXPECT_EQ(key->under_way, 100U);
  uses.clear();
  EXPECT_EQ(key->under_way, 0U);
}

TEST(KeyUse, TheRateIsEnforcedWithATrueRetryAfter) {
  KeyRing ring(false);
  KeyState* key = state(ring, add(ring, {.rate = 0.25, .burst = 2}));
  EXPECT_TRUE(KeyUse::begin(key, kSecond).ok());
  EXPECT_TRUE(KeyUse::begin(key, kSecond).ok());
  auto refused = KeyUse::begin(key, 2 * kSecond + 1);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().reason, "rate_limited");
  EXPECT_EQ(http_status(refused.error()), 429);
  EXPECT_EQ(refused.error().retry_after_s, 3U);
  EXPECT_THAT(refused.error().message, HasSubstr("0.25 times a second, 2 at once"));
  EXPECT_TRUE(KeyUse::begin(key, 2 * kSecond + 1 + 3 * kSecond).ok());
  EXPECT_EQ(key->under_way, 0U);
}

TEST(KeyUse, RequestsUnderWayAreCountedUntilTheyEnd) {
  KeyRing ring(false);
  KeyState* key = state(ring, add(ring, {.rate = 100, .burst = 3, .concurrency = 2}));
  auto one = KeyUse::begin(key, kSecond), two = KeyUse::begin(key, kSecond);
  ASSERT_TRUE(one.ok() && two.ok());
  auto refused = KeyUse::begin(key, kSecond);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().reason, "concurrency_limited");
  EXPECT_EQ(refused.error().retry_after_s, 1U);
  one->end(21 * kSecond);  // it took 20 s: of two such one ends each 10 s
  auto three = KeyUse::begin(key, kSecond);
  ASSERT_TRUE(three.ok()) << "what concurrency refuses must not use the rate up";
  EXPECT_EQ(KeyUse::begin(key, kSecond).error().retry_after_s, 10U);
  KeyUse moved = std::move(*two);
  two->end(5);
  EXPECT_EQ(key->under_way, 2U);
  moved = KeyUse();
  EXPECT_EQ(key->under_way, 1U);
}

TEST(KeyUse, WhatWasNotDoneDoesNotCountAgainstTheRate) {
  KeyRing ring(false);
  KeyState* key = state(ring, add(ring, {.rate = 1, .burst = 1}));
  for (int i = 0; i < 5; ++i) {
    auto use = KeyUse::begin(key, kSecond);
    ASSERT_TRUE(use.ok());
    use->give_back();
  }
  EXPECT_TRUE(KeyUse::begin(key, kSecond).ok());
  EXPECT_FALSE(KeyUse::begin(key, kSecond).ok());
  KeyUse().give_back();
  EXPECT_EQ(key->under_way, 0U);
}

TEST(KeyUse, LimitsChangeUnderRequests) {
  KeyRing ring(false);
  const Made made = add(ring);
  KeyState* key = state(ring, made);
  auto one = KeyUse::begin(key, 1), two = KeyUse::begin(key, 1);
  ring.set_limits(made.id, {.concurrency = 1}, 2);
  EXPECT_FALSE(KeyUse::begin(key, 2).ok());
  one->end(3);
  EXPECT_FALSE(KeyUse::begin(key, 3).ok());
  two->end(3);
  EXPECT_TRUE(KeyUse::begin(key, 3).ok());
  ring.set_limits(made.id, {}, 4);
  auto three = KeyUse::begin(key, 4), four = KeyUse::begin(key, 4);
  EXPECT_TRUE(three.ok() && four.ok());
}

}  // namespace
}  // namespace mayfly
