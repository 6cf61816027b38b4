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

#ifndef TAIPAN_CROSS_ENTROPY_ROW_GRADIENT_
#define TAIPAN_CROSS_ENTROPY_ROW_GRADIENT_
namespace taipan {
namespace {

// What a row of logits becomes: kBF16 in the first half of its memory.
enum class RowGradient { kNone, kF32, kBF16 };

}  // namespace
}  // namespace taipan
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

// NaN where any of x is.
HWY_INLINE float RowMax(const float* x, int64_t n) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  FloatVec top0 = hn::Set(d, kLowest), top1 = top0, nan = hn::Zero(d);
  const auto take = [&](FloatVec v, FloatVec& top) HWY_ATTR {
    top = hn::Max(top, v);  // whether a NaN comes through depends on the CPU
    nan = hn::IfThenElse(hn::Eq(v, v), nan, v);
  };
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    take(hn::LoadU(d, x + i), top0);
    take(hn::LoadU(d, x + i + lanes), top1);
  }
  for (; i < n; i += lanes) take(LoadPartial(d, x + i, std::min(lanes, n - i), kLowest), top0);
  const float any_nan = SumLanes(d, nan);
  return std::isnan(any_nan) ? any_nan : hn::GetLane(hn::MaxOfLanes(d, hn::Max(top0, top1)));
}

// Sum of exp(x - top), of which four vectors at a time are added in f32; with `kKeep`, x becomes exp(x - top).
template <bool kKeep>
HWY_INLINE double SumExp(float* x, int64_t n, float top) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const FloatVec vtop = hn::Set(d, top);
  const hn::ScalableTag<double> dd;
  auto low = hn::Zero(dd), high = hn::Zero(dd);
  const auto add = [&](FloatVec v) HWY_ATTR {
#if HWY_TARGET == HWY_SCALAR  // one lane: there are no halves
    low = hn::Add(low, hn::PromoteTo(dd, v));
#else
    const hn::Half<FloatTag> half;
    low = hn::Add(low, hn::PromoteTo(dd, hn::LowerHalf(half, v)));
    high = hn::Add(high, hn::PromoteTo(dd, hn::UpperHalf(half, v)));
#endif
  };
  const auto exp = [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec e = ExpOfNegative(d, hn::Sub(Load(d, x + i, part), vtop));
    if constexpr (kKeep) Store(e, d, x + i, part);
    return e;
  };
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const FloatVec a = exp(i, Whole()), b = exp(i + lanes, Whole());
    const FloatVec c = exp(i + 2 * lanes, Whole()), e = exp(i + 3 * lanes, Whole());
    add(hn::Add(hn::Add(a, b), hn::Add(c, e)));
  }
  for (; i + lanes <= n; i += lanes) add(exp(i, Whole()));
  double rest = 0;
  for (; i < n; ++i) rest += static_cast<double>(hn::GetLane(exp(i, Part{1})));
  return hn::GetLane(hn::SumOfLanes(dd, hn::Add(low, high))) + rest;
}

// out = factor * (softmax - onehot(target)), where x holds exp(logit - top) and `sum` their sum. out may be x itself,
// or bf16 numbers in the first half of its memory.
template <class T>
HWY_INLINE void LogitGradient(const float* x, int64_t n, int64_t target, double sum, double factor, T* out) {
  const FloatTag d;
  // p - 1 as (e - sum) / sum in double: no cancellation where the target holds nearly all of the probability.
  const float at_target = static_cast<float>(factor * ((static_cast<double>(x[target]) - sum) / sum));
  const FloatVec scale = hn::Set(d, static_cast<float>(factor / sum));
  ForVectors(d, n,
             [&](int64_t i, auto part) HWY_ATTR { Store(hn::Mul(scale, Load(d, x + i, part)), d, out + i, part); });
  if constexpr (sizeof(T) == sizeof(float)) {
    out[target] = at_target;
  } else {
    out[target] = ToBF16(at_target);
  }
}

// Returns log softmax(x)[target]. With a gradient, the row becomes d(factor * -that) / dx.
double SoftmaxRow(float* x, int64_t n, int64_t target, double factor, RowGradient gradient) {
  const double top = static_cast<double>(RowMax(x, n)), logit = static_cast<double>(x[target]);
  const float shift = static_cast<float>(top);
  const double sum = gradient == RowGradient::kNone ? SumExp<false>(x, n, shift) : SumExp<true>(x, n, shift);
  if (gradient == RowGradient::kF32) LogitGradient(x, n, target, sum, factor, x);
  if (gradient == RowGradient::kBF16) LogitGradient(x, n, target, sum, factor, reinterpret_cast<BF16*>(x));
  return logit - top - std::log(sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(SoftmaxRow);

RowGradient GradientOf(const HeadGradients* gradients, DType activations) {
  if (gradients == nullptr) return RowGradient::kNone;
  return activations == DType::kBF16 ? RowGradient::kBF16 : RowGradient::kF32;
}

// The rows' gradients where SoftmaxRow left them.
ConstMatrixView LogitGradients(ConstMatrixView logits, RowGradient kind) {
  if (kind == RowGradient::kF32) return logits;
  return {logits.data, DType::kBF16, logits.rows, logits.cols, 2 * logits.stride};
}

}  // namespace

// Logits of 128 MiB at most, 64 to 512 rows: a chunk reads the weight twice and reads and writes its f32 gradient,
// which at V = 50288, d = 768 took a quarter of the head's time in chunks of 64 rows.
int64_t HeadChunkRows(int64_t vocab) { return std::clamp<int64_t>((int64_t{1} << 25) / vocab, 64, 512); }

double HeadCrossEntropy(const HeadInputs& in, float* logprobs, const HeadGradients* gradients, Arena& scratch) {
  const int64_t n = in.h.rows, vocab = in.head.outputs();
  CHECK_EQ(in.h.cols, in.head.inputs());
  CHECK_EQ(static_cast<int64_t>(in.targets.size()), n);
  CHECK(in.weights.empty() || static_cast<int64_t>(in.weights.size()) == n);
  for (int32_t target : in.targets) {
    CHECK_GE(target, 0);
    CHECK_LT(target, vocab);
  }
  if (n == 0) return 0;
  const auto weight_of = [&](int64_t i) -> double {
    return in.weights.empty() ? 1 : in.weights[static_cast<size_t>(i)];
  };

  const Arena::Scope scope(scratch);
  const float scale = gradients != nullptr ? gradients->scale : 0;
  const RowGradient kind = GradientOf(gradients, in.h.dtype);
  const int64_t chunk = std::min(n, HeadChunkRows(vocab));
  const MatrixView buffer = scratch.Matrix(chunk, vocab);
  double* row_logprobs = scratch.Array<double>(chunk);
  const int64_t grain = std::max<int64_t>(1, 4096 / vocab);  // rows of a task, for small vocabularies
  double loss = 0;
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t rows = std::min(chunk, n - begin);
    const ConstMatrixView hidden = in.h.Rows(begin, rows);
    const MatrixView logits = buffer.Rows(0, rows);
    Linear(hidden, in.head, logits);
    ParallelForRanges(rows, grain, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        const int64_t i = begin + r;
        row_logprobs[r] = HWY_DYNAMIC_DISPATCH(SoftmaxRow)(logits.F32(r), vocab, in.targets[static_cast<size_t>(i)],
                                                           scale * weight_of(i), kind);
      }
    });
    for (int64_t r = 0; r < rows; ++r) {
      loss -= weight_of(begin + r) * row_logprobs[r];
      if (logprobs != nullptr) logprobs[begin + r] = static_cast<float>(row_logprobs[r]);
    }
    if (gradients != nullptr) {
      const ConstMatrixView dlogits = LogitGradients(logits, kind);
      LinearBackwardInput(dlogits, in.head, gradients->dh.Rows(begin, rows));
      LinearBackwardWeight(dlogits, hidden, gradients->dw);
    }
  }
  return loss;
}

}  // namespace taipan
#endif  // HWY_ONCE
