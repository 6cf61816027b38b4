#include "kernels/embedding.h"

#include <algorithm>

#include "base/parallel.h"
#include "kernels/convert.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/embedding.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

// table[tokens[t]] += dout[t] for the columns [begin, begin + cols), t ascending.
void ScatterAddColumns(ConstMatrixView dout, std::span<const int32_t> tokens, MatrixView table, int64_t begin,
                       int64_t cols) {
  const FloatTag d;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const float* from = dout.F32(static_cast<int64_t>(t)) + begin;
    float* to = table.F32(tokens[t]) + begin;
    ForVectors(d, cols, [&](int64_t c, auto part) HWY_ATTR {
      Store(hn::Add(Load(d, to + c, part), Load(d, from + c, part)), d, to + c, part);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(ScatterAddColumns);

constexpr int64_t kGatherRows = 64;

// Columns of a task: one task a thread, for threads that write neighbouring lines of the same rows fetch them from each
// other (narrow tasks took seven times as long on two threads as on one).
int64_t ScatterColumns(int64_t cols) {
  constexpr int64_t kLines = 64;  // four cache lines
  return std::max(kLines, (cols / NumThreads() + kLines - 1) / kLines * kLines);
}

void CheckIds(std::span<const int32_t> tokens, int64_t vocab) {
  for (int32_t id : tokens) {
    CHECK_GE(id, 0);
    CHECK_LT(id, vocab);
  }
}

}  // namespace

void Embed(ConstMatrixView table, std::span<const int32_t> tokens, MatrixView out) {
  CHECK_EQ(out.rows, static_cast<int64_t>(tokens.size()));
  CHECK_EQ(out.cols, table.cols);
  CheckIds(tokens, table.rows);
  ParallelForRanges(out.rows, kGatherRows, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) Convert(table.Rows(tokens[static_cast<size_t>(t)], 1), out.Rows(t, 1));
  });
}

void Embed(const std::function<void(int64_t row, float* to)>& table, int64_t vocab, std::span<const int32_t> tokens,
           MatrixView out) {
  CHECK_EQ(out.rows, static_cast<int64_t>(tokens.size()));
  CheckIds(tokens, vocab);
  ParallelForRanges(out.rows, kGatherRows, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) table(tokens[static_cast<size_t>(t)], out.F32(t));
  });
}

void EmbedBackward(ConstMatrixView dout, std::span<const int32_t> tokens, MatrixView dtable) {
  CHECK_EQ(dout.rows, static_cast<int64_t>(tokens.size()));
  CHECK_EQ(dout.cols, dtable.cols);
  CheckIds(tokens, dtable.rows);
  // A task owns its columns, so every element is one sum over the tokens in their order.
  ParallelForRanges(dout.cols, ScatterColumns(dout.cols), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(ScatterAddColumns)(dout, tokens, dtable, begin, end - begin);
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
