#include "worker_ipc/arena.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <semaphore>
#include <thread>

namespace mayfly {
namespace {

Result<SlotResult> read_result(const ArenaView& a, std::uint32_t slot, const Signature& sig) {
  SlotResult out;
  MAYFLY_TRY(mayfly::read_result(a, slot, sig, out));
  return out;
}

Shape shape(std::initializer_list<std::int64_t> dims) {
  Shape s;
  for (const auto d : dims) s.dims[s.rank++] = d;
  return s;
}

class ArenaTest : public testing::Test {
 protected:
  ArenaTest() : memory_(std::aligned_alloc(4096, geometry_.total_bytes()), std::free) {
    std::memset(memory_.get(), 0, geometry_.total_bytes());
    view_ = ArenaView(memory_.get(), geometry_);
  }
  SlotResult& result() { return view_.slot(0).result; }
  // One output "y" of 4 floats and one "s" of 2 strings, right in every respect.
  void write_good_result() {
    SlotResult r;
    r.output_count = 2;
    r.outputs[0].index = 0;
    r.outputs[0].dtype = static_cast<std::uint8_t>(Dtype::kFp32);
    r.outputs[0].rank = 2;
    r.outputs[0].dims[0] = 1;
    r.outputs[0].dims[1] = 4;
    r.outputs[0].bytes = 16;
    r.outputs[1].index = 1;
    r.outputs[1].dtype = static_cast<std::uint8_t>(Dtype::kBytes);
    r.outputs[1].rank = 1;
    r.outputs[1].dims[0] = 2;
    r.outputs[1].offset = 64;
    r.outputs[1].bytes = 10;
    std::memcpy(view_.output(0).data() + 64, "\2\0\0\0ab\0\0\0\0", 10);
    result() = r;
  }
  ArenaGeometry geometry_{.slot_count = 2, .input_capacity = 4096, .output_capacity = 4096};
  std::unique_ptr<void, decltype(&std::free)> memory_;
  ArenaView view_;
  Signature sig_{{{"x", Dtype::kFp32, shape({-1, 4})}},
                 {{"y", Dtype::kFp32, shape({-1, 4})}, {"s", Dtype::kBytes, shape({-1})}}};
};

TEST_F(ArenaTest, GoodResultIsRead) {
  write_good_result();
  const auto r = read_result(view_, 0, sig_);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(r->output_count, 2U);
}

TEST_F(ArenaTest, HostileResultsAreRefused) {
  using Edit = void (*)(SlotResult&);
  const Edit edits[] = {
      [](SlotResult& r) { r.status = static_cast<SlotStatus>(77); },
      [](SlotResult& r) { r.output_count = 3; },
      [](SlotResult& r) { r.output_count = 0xFFFFFFFF; },
      [](SlotResult& r) { r.top_count = kMaxTopClasses + 1; },
      [](SlotResult& r) { r.outputs[0].index = 2; },
      [](SlotResult& r) { r.outputs[0].index = 0x80000000; },
      [](SlotResult& r) { r.outputs[1] = r.outputs[0]; },
      [](SlotResult& r) { r.outputs[0].dtype = 0; },
      [](SlotResult& r) { r.outputs[0].dtype = 255; },
      [](SlotResult& r) { r.outputs[0].dtype = static_cast<std::uint8_t>(Dtype::kInt32); },
      [](SlotResult& r) { r.outputs[0].rank = 9; },
      [](SlotResult& r) { r.outputs[0].rank = 255; },
      [](SlotResult& r) { r.outputs[0].dims[0] = -1; },
      [](SlotResult& r) { r.outputs[0].dims[0] = INT64_MAX; },
      [](SlotResult& r) { r.outputs[0].dims[0] = std::int64_t{1} << 60; },  // bytes wrap to a small number
      [](SlotResult& r) { r.outputs[0].bytes = 15; },
      [](SlotResult& r) { r.outputs[0].bytes = 20; },
      [](SlotResult& r) { r.outputs[0].offset = 4; },
      [](SlotResult& r) { r.outputs[0].offset = 4096; },
      [](SlotResult& r) { r.outputs[0].offset = ~std::uint64_t{63}; },
      [](SlotResult& r) { r.outputs[0].bytes = ~std::uint64_t{0}; },
      [](SlotResult& r) { r.outputs[1].dims[0] = 3; },
      [](SlotResult& r) { r.outputs[1].bytes = 9; },
      [](SlotResult& r) { r.outputs[1].offset = 0; },
  };
  int i = 0;
  for (const Edit edit : edits) {
    write_good_result();
    view_.output(0)[0] = std::byte{0xFF};
    edit(result());
    const auto r = read_result(view_, 0, sig_);
    ASSERT_FALSE(r.ok()) << "edit " << i;
    EXPECT_EQ(r.error().reason, "instance_protocol_violation");
    ++i;
  }
  EXPECT_FALSE(read_result(view_, 2, sig_).ok());
}

TEST_F(ArenaTest, ErrorTextIsTerminatedAndOutputsIgnored) {
  result().status = SlotStatus::kModelError;
  result().output_count = 0xFFFFFFFF;
  std::memset(result().error_text, 'x', kMaxErrorText);
  const auto r = read_result(view_, 0, sig_);
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->output_count, 0U);
  EXPECT_EQ(std::strlen(r->error_text), kMaxErrorText - 1);
}

TEST_F(ArenaTest, RequestsAreChecked) {
  SlotRequest rq;
  EXPECT_FALSE(check_request(rq, view_.input(0), sig_).ok());
  rq.input_count = 1;
  rq.inputs[0].dtype = static_cast<std::uint8_t>(Dtype::kFp32);
  rq.inputs[0].rank = 2;
  rq.inputs[0].dims[0] = 2;
  rq.inputs[0].dims[1] = 4;
  rq.inputs[0].bytes = 32;
  EXPECT_TRUE(check_request(rq, view_.input(0), sig_).ok());
  rq.inputs[0].dims[0] = 4;
  rq.inputs[0].dims[1] = 2;
  EXPECT_FALSE(check_request(rq, view_.input(0), sig_).ok());
  rq.kind = RequestKind::kImage;
  EXPECT_FALSE(check_request(rq, view_.input(0), sig_).ok());
  rq.raw_bytes = 4096;
  EXPECT_TRUE(check_request(rq, view_.input(0), sig_).ok());
  rq.raw_bytes = 4097;
  EXPECT_FALSE(check_request(rq, view_.input(0), sig_).ok());
  rq.kind = RequestKind::kProbe;
  EXPECT_TRUE(check_request(rq, view_.input(0), sig_).ok());
  rq.kind = static_cast<RequestKind>(9);
  EXPECT_FALSE(check_request(rq, view_.input(0), sig_).ok());
}

TEST(Ring, KeepsOrderAcrossTheWrap) {
  auto r = std::make_unique<Ring>();
  r->head = r->tail = 0xFFFFFFF0;
  for (std::uint32_t round = 0; round < 10; ++round) {
    for (std::uint32_t i = 0; i < kMaxSlots; ++i) EXPECT_FALSE(ring_push(*r, i));
    for (std::uint32_t i = 0; i < kMaxSlots; ++i) EXPECT_EQ(ring_pop(*r), i);
    EXPECT_EQ(ring_pop(*r), std::nullopt);
  }
}

TEST(Ring, SleepProtocol) {
  auto r = std::make_unique<Ring>();
  EXPECT_TRUE(ring_prepare_sleep(*r));
  EXPECT_TRUE(ring_push(*r, 1));
  EXPECT_FALSE(ring_push(*r, 2));  // woken already
  EXPECT_FALSE(ring_prepare_sleep(*r));
  EXPECT_FALSE(ring_push(*r, 3));  // the refused sleep took its flag back
}

TEST(Ring, ImpossibleDistanceIsBroken) {
  auto r = std::make_unique<Ring>();
  r->tail = kMaxSlots + 1;
  EXPECT_EQ(ring_pop(*r), kBrokenRing);
  r->tail = 0;
  r->head = 1;
  EXPECT_EQ(ring_pop(*r), kBrokenRing);
}

// A lost wake-up hangs this test; a wrong order fails it.
TEST(Ring, TwoThreadsLoseNothing) {
  constexpr std::uint32_t kMessages = 200'000;
  auto r = std::make_unique<Ring>();
  std::counting_semaphore<> wake(0);
  std::atomic<std::uint32_t> consumed{0};
  std::uint32_t wrong = 0;
  std::thread consumer([&] {
    for (std::uint32_t n = 0; n < kMessages;) {
      if (const auto slot = ring_pop(*r)) {
        wrong += *slot != n % kMaxSlots;
        consumed.store(++n, std::memory_order_release);
      } else if (ring_prepare_sleep(*r)) {
        wake.acquire();
      }
    }
  });
  for (std::uint32_t n = 0; n < kMessages; ++n) {
    while (n - consumed.load(std::memory_order_acquire) >= kMaxSlots) std::this_thread::yield();
    if (ring_push(*r, n % kMaxSlots)) wake.release();
  }
  consumer.join();
  EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace mayfly
