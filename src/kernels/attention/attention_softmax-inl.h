// The online softmax of attention's forward. Include after highway.h within a foreach_target file (hence no ordinary
// include guard).
#if defined(TAIPAN_ATTENTION_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAIPAN_ATTENTION_SOFTMAX_INL_H_
#undef TAIPAN_ATTENTION_SOFTMAX_INL_H_
#else
#define TAIPAN_ATTENTION_SOFTMAX_INL_H_
#endif

#include <cmath>
#include <limits>

#include "hwy/highway.h"
#include "kernels/attention/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan::attention {
namespace HWY_NAMESPACE {

// What a row has summed so far.
struct RowSums {
  float* reference;  // what the exponents of 2 are relative to: the row's largest score or a little less
  float* sum;        // [kLanes] probabilities by lane
  float* acc;        // [dh] of probability times value
  int64_t dh;
};

// Before the first tile: `rows` of them, one after the other.
HWY_INLINE void ClearSums(int64_t rows, RowSums first) {
  std::fill_n(first.reference, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(first.sum, rows * kLanes, 0.0f);
  std::fill_n(first.acc, rows * first.dh, 0.0f);
}

// A row's new reference, which rescales its sums.
HWY_INLINE void RaiseReference(float reference, RowSums row) {
  const float scale = std::exp2(*row.reference - reference);  // 0 at the row's first tile
  *row.reference = reference;
  if (scale == 0.0f) {
    std::memset(row.sum, 0, kLanes * sizeof(float));
    std::memset(row.acc, 0, static_cast<size_t>(row.dh) * sizeof(float));
  } else {
    TileScale(kLanes, scale, row.sum, row.sum);
    TileScale(row.dh, scale, row.acc, row.acc);
  }
}

// Scores of one row -> 2^(score * scale - reference) in p, over `columns`. The reference rises only when a score
// exceeds it by kSlack: probabilities relative to it stay below 2^kSlack, and most tiles rescale nothing.
template <class T, bool kMasked>
HWY_INLINE void SoftmaxRow(Columns columns, Columns seen, float scale, const float* scores, T* p, RowSums row) {
  constexpr float kSlack = 8.0f;
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const Vec lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  Vec top = lowest;
  for (int64_t j = columns.begin; j < columns.end; j += 2 * lanes) {
    Vec a = hn::LoadU(d, scores + j), b = hn::LoadU(d, scores + j + lanes);
    if constexpr (kMasked) {
      a = hn::IfThenElse(SeenLanes(d, seen, j), a, lowest);
      b = hn::IfThenElse(SeenLanes(d, seen, j + lanes), b, lowest);
    }
    top = hn::Max(top, hn::Max(a, b));
  }
  const Vec factor = hn::Set(d, scale);
  if (!hn::AllFalse(d, hn::Gt(hn::Mul(top, factor), hn::Set(d, *row.reference + kSlack)))) {
    RaiseReference(hn::GetLane(hn::MaxOfLanes(d, top)) * scale, row);
  }
  const Vec shift = hn::Set(d, *row.reference);
  Vec total = hn::LoadU(d, row.sum);
  for (int64_t j = columns.begin; j < columns.end; j += 2 * lanes) {
    Vec a = Exp2<T>(d, hn::MulSub(hn::LoadU(d, scores + j), factor, shift));
    Vec b = Exp2<T>(d, hn::MulSub(hn::LoadU(d, scores + j + lanes), factor, shift));
    if constexpr (kMasked) {
      a = hn::IfThenElseZero(SeenLanes(d, seen, j), a);
      b = hn::IfThenElseZero(SeenLanes(d, seen, j + lanes), b);
    }
    total = hn::Add(total, hn::Add(a, b));
    StoreTwo(d, a, b, p + j);
  }
  hn::StoreU(total, d, row.sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::attention
HWY_AFTER_NAMESPACE();

#endif
