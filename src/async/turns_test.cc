#include "async/turns.h"

#include <gtest/gtest.h>

#include <vector>

namespace mayfly {
namespace {

// Takes the turn, notes that it has it, lets `rounds` of other work pass, notes that it gives it back.
Task<void> work(Turns* turns, std::string name, int who, int rounds, std::vector<int>* notes) {
  auto turn = co_await turns->take(std::move(name));
  notes->push_back(who);
  auto executor = co_await asio::this_coro::executor;
  for (int i = 0; i < rounds; ++i) co_await asio::post(executor, asio::use_awaitable_t<Executor>{});
  notes->push_back(-who);
}

TEST(TurnsTest, OneAtATimeInTheOrderOfArrival) {
  asio::io_context io;
  Turns turns;
  std::vector<int> notes;
  for (int who = 1; who <= 4; ++who)
    asio::co_spawn(io, work(&turns, "default/iris", who, 5 - who, &notes), asio::detached);
  io.run();
  EXPECT_EQ(notes, (std::vector{1, -1, 2, -2, 3, -3, 4, -4}));
  EXPECT_EQ(turns.taken(), 0u);
}

TEST(TurnsTest, NamesDoNotWaitForEachOther) {
  asio::io_context io;
  Turns turns;
  std::vector<int> notes;
  asio::co_spawn(io, work(&turns, "a", 1, 9, &notes), asio::detached);
  asio::co_spawn(io, work(&turns, "b", 2, 0, &notes), asio::detached);
  io.run();
  EXPECT_EQ(notes, (std::vector{1, 2, -2, -1}));
}

}  // namespace
}  // namespace mayfly
