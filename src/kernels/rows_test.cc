#include "kernels/rows.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

const std::vector<int64_t> kRows = {0, 3, 4, 9};

TEST(Rows, GatherTakesThoseNamedInAnyOrder) {
  for (const int64_t cols : {1, 7, 64}) {
    PaddedMatrix from(10, cols, 3, 1), to(4, cols, 2, 1);
    from.FillRandom(1);
    const std::vector<int64_t> rows = {9, 0, 0, 4};
    GatherRows(from.View(), rows.data(), to.View());
    for (size_t i = 0; i < rows.size(); ++i) {
      for (int64_t c = 0; c < cols; ++c) {
        EXPECT_EQ(to.View().F32(static_cast<int64_t>(i))[c], from.View().F32(rows[i])[c]);
      }
    }
    EXPECT_TRUE(to.GuardsIntact());
  }
  Tensor from({3, 2}, DType::kBF16), to({1, 2}, DType::kBF16);
  from.As<BF16>()[5] = ToBF16(2.5f);
  const int64_t last = 2;
  GatherRows(from.Matrix(), &last, to.Matrix());
  EXPECT_EQ(ToFloat(to.As<BF16>()[1]), 2.5f);
}

TEST(Rows, ScatterLeavesZerosBetween) {
  PaddedMatrix from(4, 33, 1, 1), to(10, 33, 2, 3);
  from.FillRandom(1);
  to.FillRandom(2);
  ScatterRows(from.View(), kRows.data(), to.View());
  size_t next = 0;
  for (int64_t r = 0; r < 10; ++r) {
    const bool named = next < kRows.size() && kRows[next] == r;
    for (int64_t c = 0; c < 33; ++c) {
      EXPECT_EQ(to.View().F32(r)[c], named ? from.View().F32(static_cast<int64_t>(next))[c] : 0.0f);
    }
    next += named ? 1 : 0;
  }
  EXPECT_TRUE(to.GuardsIntact());
}

TEST(Rows, AddAddsToThoseNamedAlone) {
  PaddedMatrix from(4, 5, 1, 1), to(10, 5, 2, 3);
  from.FillRandom(1);
  to.FillRandom(2);
  const std::vector<float> before = to.Dense();
  AddRows(from.View(), kRows.data(), to.View());
  std::vector<float> expected = before;
  for (size_t i = 0; i < kRows.size(); ++i) {
    for (size_t c = 0; c < 5; ++c) {
      expected[static_cast<size_t>(kRows[i]) * 5 + c] += from.View().F32(static_cast<int64_t>(i))[c];
    }
  }
  EXPECT_EQ(to.Dense(), expected);
}

TEST(Rows, IndicesAreChecked) {
  Tensor all({3, 2}), picked({2, 2});
  const int64_t beyond[] = {0, 3}, descending[] = {1, 0}, twice[] = {1, 1};
  EXPECT_THROW(GatherRows(all.Matrix(), beyond, picked.Matrix()), InternalError);
  EXPECT_THROW(AddRows(picked.Matrix(), beyond, all.Matrix()), InternalError);
  EXPECT_THROW(AddRows(picked.Matrix(), descending, all.Matrix()), InternalError);
  EXPECT_THROW(ScatterRows(picked.Matrix(), twice, all.Matrix()), InternalError);
}

}  // namespace
}  // namespace taipan
