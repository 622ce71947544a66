#include "async/single_flight.h"

#include <gtest/gtest.h>

namespace mayfly {
namespace {

// Lets `rounds` of other work pass, and counts that it ran.
Task<int> work(int rounds, int* runs) {
  auto executor = co_await asio::this_coro::executor;
  for (int i = 0; i < rounds; ++i) co_await asio::post(executor, asio::use_awaitable_t<Executor>{});
  co_return ++*runs;
}

Task<void> ask(SingleFlight<int>* flights, std::string key, int* runs, std::vector<int>* answers) {
  auto make = [runs] { return work(5, runs); };
  answers->push_back(co_await flights->run(std::move(key), make));
}

TEST(SingleFlightTest, OneRunsForAllWhoAskMeanwhile) {
  asio::io_context io;
  SingleFlight<int> flights;
  int runs = 0;
  std::vector<int> answers;
  for (int i = 0; i < 4; ++i) asio::co_spawn(io, ask(&flights, "a", &runs, &answers), asio::detached);
  io.poll_one();
  EXPECT_TRUE(flights.contains("a"));
  io.run();
  EXPECT_EQ(answers, (std::vector{1, 1, 1, 1}));
  EXPECT_FALSE(flights.contains("a"));
}

TEST(SingleFlightTest, WhoAsksAfterwardsOrForSomethingElseHasARunOfItsOwn) {
  asio::io_context io;
  SingleFlight<int> flights;
  int runs = 0;
  std::vector<int> answers;
  asio::co_spawn(io, ask(&flights, "a", &runs, &answers), asio::detached);
  asio::co_spawn(io, ask(&flights, "b", &runs, &answers), asio::detached);
  io.run();
  io.restart();
  asio::co_spawn(io, ask(&flights, "a", &runs, &answers), asio::detached);
  io.run();
  EXPECT_EQ(answers, (std::vector{1, 2, 3}));
}

}  // namespace
}  // namespace mayfly
