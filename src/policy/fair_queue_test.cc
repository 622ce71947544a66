#include "policy/fair_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

namespace mayfly::policy {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

struct Item : FairEntry {
  int number = 0;
};

// Owns the entries of a test. What is still queued at the end is taken out of the queue first.
class Bench {
 public:
  explicit Bench(std::size_t max_entries = 100'000, std::uint64_t first_tag = 0) : queue(max_entries, first_tag) {}
  ~Bench() {
    while (queue.pop(0).entry != nullptr) {
    }
  }
  Item& make(std::uint64_t flow, std::uint64_t cost_ns = kMs, std::uint32_t weight = 1) {
    auto item = std::make_unique<Item>();
    item->flow = flow;
    item->weight = weight;
    item->cost_ns = cost_ns;
    item->number = static_cast<int>(items.size());
    items.push_back(std::move(item));
    return *items.back();
  }
  Item& push(std::uint64_t flow, std::uint64_t cost_ns = kMs, std::uint32_t weight = 1) {
    Item& item = make(flow, cost_ns, weight);
    EXPECT_EQ(queue.push(item), nullptr);
    return item;
  }
  Item* pop(std::uint64_t now = 0) { return static_cast<Item*>(queue.pop(now).entry); }
  std::vector<std::uint64_t> flows_served(int n) {
    std::vector<std::uint64_t> out;
    for (int i = 0; i < n; ++i) out.push_back(pop()->flow);
    return out;
  }
  std::vector<std::unique_ptr<Item>> items;
  FairQueue queue;
};

TEST(FairQueue, ServesOneFlowInTheOrderOfArrival) {
  Bench b;
  Item &one = b.push(7), &two = b.push(7), &three = b.push(7);
  EXPECT_EQ(b.pop(), &one);
  EXPECT_EQ(b.pop(), &two);
  EXPECT_EQ(b.pop(), &three);
  EXPECT_EQ(b.pop(), nullptr);
  EXPECT_TRUE(b.queue.empty());
}

TEST(FairQueue, TakesTurnsByWeight) {
  Bench b;
  for (int i = 0; i < 6; ++i) b.push(1, kMs, 1);
  for (int i = 0; i < 6; ++i) b.push(2, kMs, 2);
  const auto served = b.flows_served(6);
  EXPECT_EQ(std::count(served.begin(), served.end(), 1U), 2);
  EXPECT_EQ(std::count(served.begin(), served.end(), 2U), 4);
}

TEST(FairQueue, OrdersAFlowByPriorityThenDeadlineThenArrival) {
  Bench b;
  auto with = [&](std::uint64_t priority, std::uint64_t deadline) -> Item& {
    Item& e = b.make(1);
    e.priority = priority;
    e.deadline_ns = deadline;
    EXPECT_EQ(b.queue.push(e), nullptr);
    return e;
  };
  Item& low = with(9, 100 * kMs);
  Item& plain_late = with(0, 900 * kMs);
  Item& plain_soon = with(5, 500 * kMs);  // 5 is what 0 stands for
  Item& plain_soon_too = with(0, 500 * kMs);
  Item& lowest = with(1'000'000, 100 * kMs);  // counts as 9
  Item& high = with(1, 999 * kMs);
  for (Item* expected : {&high, &plain_soon, &plain_soon_too, &plain_late, &low, &lowest}) EXPECT_EQ(b.pop(), expected);
}

TEST(FairQueue, TellsWhatCannotMeetItsDeadline) {
  Bench b;
  Item& late = b.make(1, 30 * kMs);
  late.deadline_ns = 100 * kMs;
  Item& fits = b.make(1, 30 * kMs);
  fits.deadline_ns = 101 * kMs;
  b.queue.push(fits);
  b.queue.push(late);
  EXPECT_EQ(b.queue.next_deadline(), 70 * kMs);
  EXPECT_EQ(b.queue.pop_expired(70 * kMs), nullptr);  // it would just make it
  const auto next = b.queue.pop(70 * kMs + 1);
  EXPECT_EQ(next.entry, &late);
  EXPECT_TRUE(next.expired);
  EXPECT_EQ(b.queue.next_deadline(), 71 * kMs);
  const auto served = b.queue.pop(71 * kMs);
  EXPECT_EQ(served.entry, &fits);
  EXPECT_FALSE(served.expired);
  EXPECT_EQ(b.queue.next_deadline(), kNoDeadline);
}

TEST(FairQueue, ACostAboveTheDeadlineIsExpiredNotWrappedAround) {
  Bench b;
  Item& e = b.make(1, 50 * kMs);
  e.deadline_ns = 10 * kMs;
  b.queue.push(e);
  EXPECT_EQ(b.queue.pop_expired(1), &e);
}

TEST(FairQueue, ABurstDelaysANewcomerByOneEntryAtMost) {
  for (const int served_before : {0, 1, 17, 999}) {
    Bench b;
    for (int i = 0; i < 1000; ++i) b.push(1, 5 * kMs);
    for (int i = 0; i < served_before; ++i) b.pop();
    Item& newcomer = b.push(2, 5 * kMs);
    const Item *first = b.pop(), *second = b.pop();
    EXPECT_TRUE(first == &newcomer || second == &newcomer) << "after " << served_before;
  }
}

TEST(FairQueue, AFlowThatWasAwayHasSavedNothing) {
  Bench b;
  b.push(2);
  b.pop();
  for (int i = 0; i < 200; ++i) b.push(1);
  for (int i = 0; i < 100; ++i) b.pop();  // flow 1 alone
  for (int i = 0; i < 20; ++i) b.push(2);
  const auto served = b.flows_served(20);
  EXPECT_NEAR(static_cast<double>(std::count(served.begin(), served.end(), 2U)), 10, 1);
}

TEST(FairQueue, WhenFullTheHeaviestFlowGivesWay) {
  Bench b(4);
  b.push(1);
  b.push(1);
  Item& newest = b.push(1);
  b.push(2);
  Item& arriving = b.make(3);
  EXPECT_FALSE(b.queue.refuses(arriving));
  EXPECT_EQ(b.queue.push(arriving), &newest);
  EXPECT_TRUE(arriving.queued());
  EXPECT_EQ(b.queue.size(), 4U);
  EXPECT_EQ(b.queue.size_of(1), 2U);
}

TEST(FairQueue, WhenFullWeightCounts) {
  Bench b(5);
  for (int i = 0; i < 3; ++i) b.push(1, kMs, 4);
  Item& light = b.push(2, kMs, 1);
  b.push(3, kMs, 4);
  EXPECT_EQ(b.queue.push(b.make(3, kMs, 4)), &light);  // a whole ms each weight beats three quarters of one
}

TEST(FairQueue, WhenFullTheLowestPriorityOfTheFlowGoesFirst) {
  Bench b(2);
  Item& low = b.make(1);
  low.priority = 9;
  b.queue.push(low);
  b.push(1);
  Item& e = b.make(1);
  EXPECT_FALSE(b.queue.refuses(e));
  EXPECT_EQ(b.queue.push(e), &low);
  Item& last = b.make(1);
  EXPECT_TRUE(b.queue.refuses(last));
  EXPECT_EQ(b.queue.push(last), &last);
}

TEST(FairQueue, AQueueOfNothingTakesNothing) {
  Bench b(0);
  Item& e = b.make(1);
  EXPECT_TRUE(b.queue.refuses(e));
  EXPECT_EQ(b.queue.push(e), &e);
  EXPECT_FALSE(e.queued());
}

TEST(FairQueue, RemovedEntriesAreNotServedAndNotCharged) {
  Bench b;
  std::vector<Item*> burst;
  for (int i = 0; i < 10; ++i) burst.push_back(&b.push(1));
  for (int i = 0; i < 9; ++i) b.queue.remove(*burst[static_cast<std::size_t>(i)]);
  b.push(2);
  EXPECT_EQ(b.pop(), burst.back());
  EXPECT_EQ(b.pop()->flow, 2U);
}

TEST(FairQueue, SettlingMakesAnUnderestimatedFlowWait) {
  Bench b;
  for (int i = 0; i < 30; ++i) b.push(1);
  for (int i = 0; i < 30; ++i) b.push(2);
  std::map<std::uint64_t, std::uint64_t> time;
  for (int i = 0; i < 22; ++i) {
    const Item* e = b.pop();
    const std::uint64_t took = e->flow == 1 ? 10 * kMs : kMs;  // both are predicted to take 1 ms
    time[e->flow] += took;
    b.queue.settle(e->flow, e->cost_ns, took);
  }
  EXPECT_NEAR(static_cast<double>(time[1]), static_cast<double>(time[2]), 10 * kMs);
}

TEST(FairQueue, RestForgivesDebts) {
  Bench b;
  b.push(1);
  b.pop();
  b.queue.settle(1, kMs, 1000 * kMs);
  b.queue.rest();
  for (int i = 0; i < 4; ++i) b.push(2);
  for (int i = 0; i < 4; ++i) b.push(1);
  const auto served = b.flows_served(4);
  EXPECT_EQ(std::count(served.begin(), served.end(), 1U), 2);
}

TEST(FairQueue, ForgetsFlowsThatWaitForNothing) {
  Bench b;
  for (std::uint64_t flow = 0; flow < 5 * FairQueue::kMaxIdleFlows; ++flow) {
    b.push(flow);
    b.pop();
  }
  EXPECT_LE(b.queue.known_flows(), FairQueue::kMaxIdleFlows);
}

TEST(FairQueue, SaysWhatIsAhead) {
  Bench b;
  EXPECT_EQ(b.queue.cost_ahead_ns(b.make(1)), 0U);
  for (int i = 0; i < 100; ++i) b.push(1);
  EXPECT_EQ(b.queue.cost_ahead_ns(b.make(1)), 100 * kMs);
  EXPECT_EQ(b.queue.cost_ahead_ns(b.make(2)), kMs);  // one entry of flow 1 at most
  Item& urgent = b.make(1);
  urgent.priority = 1;
  EXPECT_EQ(b.queue.cost_ahead_ns(urgent), 0U);
  for (std::uint64_t flow = 10; flow < 20; ++flow) b.push(flow);
  EXPECT_EQ(b.queue.cost_ahead_ns(b.make(2)), 11 * kMs);  // each flow is next with one entry
}

// What cost_ahead_ns says is what is served ahead, within one entry of each other flow.
TEST(FairQueue, WhatIsAheadIsServedAhead) {
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    std::mt19937 rng(seed);
    Bench b;
    const std::uint64_t flows = 1 + rng() % 8;
    std::map<std::uint64_t, std::uint32_t> weights;
    for (std::uint64_t f = 0; f < flows; ++f) weights[f] = 1 + rng() % 5;
    for (std::size_t i = rng() % 200; i > 0; --i) {
      const std::uint64_t f = rng() % flows;
      b.push(f, 3 * kMs, weights[f]);
      if (rng() % 4 == 0) b.pop();
    }
    const std::uint64_t f = rng() % flows;
    Item& e = b.make(f, 3 * kMs, weights[f]);
    const std::uint64_t said = b.queue.cost_ahead_ns(e);
    EXPECT_EQ(b.queue.push(e), nullptr);
    std::uint64_t ahead = 0;
    while (const Item* x = b.pop()) {
      if (x == &e) break;
      ahead += x->cost_ns;
    }
    EXPECT_NEAR(static_cast<double>(said), static_cast<double>(ahead), static_cast<double>(flows * 3 * kMs))
        << "seed " << seed;
  }
}

// Goyal's bound: over any time in which both wait, |W1/w1 - W2/w2| <= cmax1/w1 + cmax2/w2.
TEST(FairQueue, TwoFlowsThatWaitAreServedInProportion) {
  for (std::uint32_t seed = 1; seed <= 100; ++seed) {
    std::mt19937 rng(seed);
    Bench b;
    const std::uint32_t weight[2] = {1 + static_cast<std::uint32_t>(rng() % 100),
                                     1 + static_cast<std::uint32_t>(rng() % 100)};
    const std::uint64_t most[2] = {kMs * (1 + rng() % 50), kMs * (1 + rng() % 50)};
    auto refill = [&](std::uint64_t f) { b.push(f, kMs + rng() % most[f], weight[f]); };
    for (std::uint64_t f = 0; f < 2; ++f) {
      for (int i = 0; i < 3; ++i) refill(f);
    }
    double work[2] = {0, 0}, low = 0,
           high = 0;  // of the difference, over all prefixes: their spread bounds every interval
    for (int i = 0; i < 2000; ++i) {
      const Item* e = b.pop();
      work[e->flow] += static_cast<double>(e->cost_ns) / weight[e->flow];
      const double difference = work[0] - work[1];
      low = std::min(low, difference);
      high = std::max(high, difference);
      refill(e->flow);
    }
    const double bound =
        static_cast<double>(kMs + most[0]) / weight[0] + static_cast<double>(kMs + most[1]) / weight[1];
    EXPECT_LE(high - low, bound + 2000) << "seed " << seed;  // a nanosecond each of division
  }
}

TEST(FairQueue, NobodyStarves) {
  for (std::uint32_t seed = 1; seed <= 50; ++seed) {
    std::mt19937 rng(seed);
    Bench b;
    constexpr std::uint64_t kFlows = 12;
    std::map<std::uint64_t, int> since;  // pops since the flow was served last
    for (std::uint64_t f = 0; f < kFlows; ++f) {
      for (int i = 0; i < 2; ++i) b.push(f, kMs, 1 + static_cast<std::uint32_t>(f % 3));
    }
    for (int i = 0; i < 3000; ++i) {
      const Item* e = b.pop();
      for (std::uint64_t f = 0; f < kFlows; ++f) ++since[f];
      since[e->flow] = 0;
      for (std::size_t more = 1 + rng() % 2; more > 0; --more) b.push(e->flow, kMs, e->weight);
      for (const auto& [f, n] : since) EXPECT_LE(n, 3 * static_cast<int>(kFlows)) << "flow " << f << ", seed " << seed;
    }
  }
}

// Random operations: each entry comes out once, by one way; a full queue never holds more than it may; the order within
// a flow holds; refuses() says what push() does; expired are exactly those that can't make it.
TEST(FairQueue, WhatGoesInComesOutOnce) {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    const std::size_t limit = rng() % 60;
    Bench b(limit);
    std::vector<Item*> queued;  // in the order of arrival
    auto gone = [&](FairEntry* e) {
      const auto at = std::find(queued.begin(), queued.end(), e);
      ASSERT_NE(at, queued.end()) << "came out twice, or never went in";
      EXPECT_FALSE(e->queued());
      queued.erase(at);
    };
    auto is_late = [](const Item& e, std::uint64_t now) {
      return now + std::max(e.cost_ns, e.need_ns) > e.deadline_ns;
    };
    for (int step = 0; step < 1500; ++step) {
      const std::uint64_t now = static_cast<std::uint64_t>(step) * kMs;
      switch (rng() % 4) {
        case 0:
        case 1: {
          Item& e = b.make(rng() % 5, kMs * (rng() % 9), 1 + static_cast<std::uint32_t>(rng() % 4));
          e.priority = rng() % 11;
          e.need_ns = kMs * (rng() % 12);
          if (rng() % 3 != 0) e.deadline_ns = now + kMs * (rng() % 200);
          queued.push_back(&e);
          const bool refused = b.queue.refuses(e);
          FairEntry* out = b.queue.push(e);
          EXPECT_EQ(refused, out == &e);
          EXPECT_EQ(out != nullptr, queued.size() > limit);
          if (out != nullptr) gone(out);
          break;
        }
        case 2: {
          const auto next = b.queue.pop(now);
          EXPECT_EQ(next.entry == nullptr, queued.empty());
          if (next.entry == nullptr) break;
          const auto* e = static_cast<Item*>(next.entry);
          EXPECT_EQ(next.expired, is_late(*e, now));
          if (!next.expired) {
            for (const Item* other : queued) {
              EXPECT_FALSE(is_late(*other, now));
              if (other->flow != e->flow) continue;
              const auto key = [](const Item& x) {
                return std::tuple(priority_level(x.priority), x.deadline_ns, x.number);
              };
              EXPECT_LE(key(*e), key(*other));
            }
          }
          gone(next.entry);
          break;
        }
        default: {
          if (queued.empty()) break;
          Item* e = queued[rng() % queued.size()];
          b.queue.remove(*e);
          gone(e);
        }
      }
      EXPECT_EQ(b.queue.size(), queued.size());
    }
  }
}

// Tags wrap around; nothing may change when they do, wherever that happens among new, known and indebted flows.
TEST(FairQueue, ServesTheSameWhileItsTagsWrapAround) {
  auto served_from = [](std::uint64_t first_tag) {
    std::mt19937 rng(20261124);
    Bench b(50, first_tag);
    std::vector<int> order;
    for (int i = 0; i < 20'000; ++i) {
      b.queue.push(b.make(rng() % 6, kMs * (1 + rng() % 40'000), 1 + static_cast<std::uint32_t>(rng() % 3)));
      if (rng() % 8 == 0) b.queue.settle(rng() % 6, 10 * kMs, kMs * (rng() % 100'000));
      if (rng() % 1000 == 0) {
        while (const Item* e = b.pop()) order.push_back(e->number);
        b.queue.rest();
      }
      if (rng() % 2 == 0) {
        const Item* e = b.pop();
        order.push_back(e != nullptr ? e->number : -1);
      }
    }
    return order;
  };
  const auto expected = served_from(0);
  EXPECT_GT(expected.size(), 10'000U);
  for (const std::uint64_t turn : {std::uint64_t{1} << 63, std::uint64_t{0}}) {
    for (const std::uint64_t before : {1ULL, 30'000ULL * kMs, 3'000'000ULL * kMs}) {
      EXPECT_TRUE(served_from(turn - before) == expected) << turn << " less " << before;
    }
  }
}

}  // namespace
}  // namespace mayfly::policy
