#include "worker_ipc/batch_plan.h"

#include <gtest/gtest.h>

#include <array>

#include "worker_ipc/input_area.h"

namespace mayfly {
namespace {

TensorSpec spec(Dtype t, std::initializer_list<std::int64_t> dims) {
  TensorSpec s{"x", t, {}};
  for (const auto d : dims) s.shape.dims[s.shape.rank++] = d;
  return s;
}

Signature two_inputs() {
  Signature s;
  s.inputs = {spec(Dtype::kFp32, {-1, 5}), spec(Dtype::kInt64, {-1})};
  s.outputs = {spec(Dtype::kFp32, {-1, 2})};
  return s;
}

TEST(BatchPlan, EachInputHasRoomForAllRows) {
  const BatchPlan p = plan_batch(two_inputs(), 10, 4096, 4096);
  ASSERT_TRUE(p);
  EXPECT_EQ(p.max_rows, 10U);
  EXPECT_EQ(p.row_bytes[0], 20U);
  EXPECT_EQ(p.row_bytes[1], 8U);
  EXPECT_EQ(p.offset[0], 0U);
  EXPECT_EQ(p.offset[1], 256U);  // 10 rows of 20 bytes, aligned
}

TEST(BatchPlan, AsManyRowsAsTheRegionsHold) {
  EXPECT_EQ(plan_batch(two_inputs(), 1000, 128 + 28 * 7, 1 << 20).max_rows, 7U);
  EXPECT_EQ(plan_batch(two_inputs(), 1000, 1 << 20, 64 + 8 * 3).max_rows, 3U);
  EXPECT_FALSE(plan_batch(two_inputs(), 1000, 64, 1 << 20));
  EXPECT_FALSE(plan_batch(two_inputs(), 1, 1 << 20, 1 << 20));
}

TEST(BatchPlan, OnlyWithABatchDimension) {
  const auto possible = [](TensorSpec in, TensorSpec out) {
    Signature s;
    s.inputs = {std::move(in)};
    s.outputs = {std::move(out)};
    return has_batch_dimension(s);
  };
  const TensorSpec row = spec(Dtype::kFp32, {-1, 2});
  EXPECT_TRUE(possible(row, row));
  EXPECT_TRUE(possible(row, spec(Dtype::kFp32, {-1, -1})));  // how wide an answer is may be found out
  EXPECT_FALSE(possible(spec(Dtype::kFp32, {-1, -1}), row));
  EXPECT_FALSE(possible(spec(Dtype::kFp32, {1, 2}), row));
  EXPECT_FALSE(possible(row, spec(Dtype::kFp32, {1, 2})));
  EXPECT_FALSE(possible(row, spec(Dtype::kFp32, {})));
  EXPECT_FALSE(possible(spec(Dtype::kBytes, {-1}), row));
  EXPECT_FALSE(possible(row, spec(Dtype::kBytes, {-1})));
}

TEST(InputArea, ARequestInABatchWritesBehindTheOthers) {
  std::array<std::byte, 4096> region;
  const BatchPlan p = plan_batch(two_inputs(), 10, region.size(), region.size());
  InputArea area(region, p, 4);
  EXPECT_EQ(area.room(0).data(), region.data() + 80);
  EXPECT_EQ(area.room(0).size(), 6 * 20U);
  EXPECT_EQ(area.room(1).data(), region.data() + 256 + 32);
  EXPECT_EQ(area.room(1).size(), 6 * 8U);
  EXPECT_EQ(area.take(1, 16), 256U + 32U);
}

}  // namespace
}  // namespace mayfly
