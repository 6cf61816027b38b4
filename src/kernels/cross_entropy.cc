#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cross_entropy.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Of the numbers among x; a NaN may or may not come through (SumExp catches it).
HWY_INLINE float RowMax(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto top = hn::Set(d, kLowest);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) top = hn::Max(top, hn::LoadU(d, x + i));
  if (i < n) top = hn::Max(top, LoadPartial(d, x + i, n - i, kLowest));
  return hn::GetLane(hn::MaxOfLanes(d, top));
}

// Sum of exp(x - top) in double; with `keep`, x becomes exp(x - top).
HWY_INLINE double SumExp(float* x, int64_t n, float top, bool keep) {
  const hn::ScalableTag<float> d;
  const hn::ScalableTag<double> dd;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto vtop = hn::Set(d, top);
  auto low = hn::Zero(dd), high = hn::Zero(dd);
  const auto add = [&](auto v) HWY_ATTR {
    const auto t = hn::Sub(v, vtop);
    // Exp(NaN) is 0 in Highway, but a NaN logit must reach the loss.
    const auto e = hn::IfThenElse(hn::Eq(t, t), hn::Exp(d, t), t);
#if HWY_TARGET == HWY_SCALAR  // one lane: there are no halves
    low = hn::Add(low, hn::PromoteTo(dd, e));
#else
    const hn::Half<decltype(d)> half;
    low = hn::Add(low, hn::PromoteTo(dd, hn::LowerHalf(half, e)));
    high = hn::Add(high, hn::PromoteTo(dd, hn::UpperHalf(half, e)));
#endif
    return e;
  };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto e = add(hn::LoadU(d, x + i));
    if (keep) hn::StoreU(e, d, x + i);
  }
  if (i < n) {
    const auto e = add(LoadPartial(d, x + i, n - i, kLowest));  // the lanes beyond the row add exactly 0
    if (keep) StorePartial(e, d, x + i, n - i);
  }
  return hn::GetLane(hn::SumOfLanes(dd, hn::Add(low, high)));
}

// Returns log softmax(x)[target]. With `gradient`, x becomes factor * (softmax(x) - onehot(target)).
double SoftmaxRow(float* x, int64_t n, int64_t target, double factor, bool gradient) {
  const float top = RowMax(x, n);
  const double target_logit = x[target];
  const double sum = SumExp(x, n, top, gradient);
  if (gradient) {
    const double e = x[target];
    const FloatTag d;
    const FloatVec scale = hn::Set(d, static_cast<float>(factor / sum));
    ForVectors(d, n,
               [&](int64_t i, auto part) HWY_ATTR { Store(hn::Mul(scale, Load(d, x + i, part)), d, x + i, part); });
    // p - 1 as (e - sum) / sum in double: no cancellation where the target holds nearly all of the probability.
    x[target] = static_cast<float>(factor * ((e - sum) / sum));
  }
  return target_logit - static_cast<double>(top) - std::log(sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(SoftmaxRow);

// Rows of a chunk: logits of 4 MiB, but at least 64 rows, because the weight is read twice and its gradient read and
// written once a chunk: at V = 128256, d = 768 (33 MB of logits) that took 0.4 of the time of 16 rows.
int64_t ChunkRows(int64_t vocab) { return std::clamp<int64_t>((int64_t{1} << 20) / vocab, 64, 512); }

}  // namespace

double HeadCrossEntropy(ConstMatrixView h, const LinearWeight& head, std::span<const int32_t> targets,
                        std::span<const float> weights, float scale, const HeadGradient* gradient, float* logprobs,
                        Arena& scratch) {
  const int64_t n = h.rows, vocab = head.outputs();
  CHECK_EQ(h.cols, head.inputs());
  CHECK_EQ(static_cast<int64_t>(targets.size()), n);
  CHECK(weights.empty() || static_cast<int64_t>(weights.size()) == n);
  for (int32_t target : targets) {
    CHECK_GE(target, 0);
    CHECK_LT(target, vocab);
  }
  if (n == 0) return 0;
  const auto weight_of = [&](int64_t i) -> double { return weights.empty() ? 1 : weights[static_cast<size_t>(i)]; };

  const Arena::Scope scope(scratch);
  const int64_t chunk = std::min(n, ChunkRows(vocab));
  const MatrixView buffer = scratch.Matrix(chunk, vocab);
  double* row_logprobs = scratch.Array<double>(chunk);
  const int64_t grain = std::max<int64_t>(1, 4096 / vocab);  // rows of a task, for small vocabularies
  double loss = 0;
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t rows = std::min(chunk, n - begin);
    const ConstMatrixView hidden = h.Rows(begin, rows);
    const MatrixView logits = buffer.Rows(0, rows);
    Linear(hidden, head, logits);
    ParallelForRanges(rows, grain, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        const int64_t i = begin + r;
        row_logprobs[r] = HWY_DYNAMIC_DISPATCH(SoftmaxRow)(logits.F32(r), vocab, targets[static_cast<size_t>(i)],
                                                           scale * weight_of(i), gradient != nullptr);
      }
    });
    for (int64_t r = 0; r < rows; ++r) {
      loss -= weight_of(begin + r) * row_logprobs[r];
      if (logprobs != nullptr) logprobs[begin + r] = static_cast<float>(row_logprobs[r]);
    }
    if (gradient != nullptr) {
      LinearBackwardInput(logits, head, gradient->dh.Rows(begin, rows));
      LinearBackwardWeight(logits, hidden, gradient->dw);
    }
  }
  return loss;
}

}  // namespace taipan
#endif  // HWY_ONCE
