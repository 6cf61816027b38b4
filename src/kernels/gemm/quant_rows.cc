#include "kernels/gemm/quant_rows.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "kernels/gemm/quant_rows_vnni.h"
#include "kernels/gemm/read_ahead.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/quant_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/gemm/quant_unpack-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

template <class T>
void RoundRun(const T* x, ActivationRun& to) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const hn::Rebind<int8_t, FloatTag> d8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto most_bits = hn::Zero(di);  // bits of |x| order like |x|, and what is not finite comes last
  for (int64_t i = 0; i < kQuantRun; i += lanes) {
    most_bits = hn::Max(most_bits, hn::BitCast(di, hn::Abs(LoadFloats(d, x + i))));
  }
  const float most = hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(di, most_bits)));
  constexpr float kSteps = 127 * 128, kLeast = 1e-30f;  // below it 1 / x would not be finite
  const bool finite = most <= std::numeric_limits<float>::max(), zero = most < kLeast;
  to.scale = finite ? (zero ? 0.0f : most / kSteps) : std::numeric_limits<float>::quiet_NaN();
  to.sum[0] = to.sum[1] = 0;
  if (!finite || zero) {
    std::memset(to.high, 0, sizeof to.high);
    std::memset(to.low, 0, sizeof to.low);
    return;
  }
  const FloatVec inverse = hn::Set(d, kSteps / most);
  for (int64_t half = 0; half < 2; ++half) {
    auto sum = hn::Zero(di);
    for (int64_t i = half * 16; i < half * 16 + 16; i += lanes) {
      const auto q = hn::NearestInt(hn::Mul(LoadFloats(d, x + i), inverse));
      const auto high = hn::ShiftRight<7>(hn::Add(q, hn::Set(di, 64)));
      hn::StoreU(hn::DemoteTo(d8, high), d8, to.high + i);
      hn::StoreU(hn::DemoteTo(d8, hn::Sub(q, hn::ShiftLeft<7>(high))), d8, to.low + i);
      sum = hn::Add(sum, q);
    }
    to.sum[half] = hn::GetLane(hn::SumOfLanes(di, sum));
  }
}

// to [rows][runs].
void RoundRows(ConstMatrixView x, ActivationRun* to) {
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t i = 0; i < x.cols; i += kQuantRun, ++to) {
      if (x.dtype == DType::kBF16) {
        RoundRun(x.As<BF16>(r) + i, *to);
      } else {
        RoundRun(x.F32(r) + i, *to);
      }
    }
  }
}

// to[r] = sum over chunks [begin, end) of code * x, exactly.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
HWY_INLINE void Dot(const uint8_t* w, const int16_t* x, int begin, int end, int32_t* to) {
  const hn::ScalableTag<int16_t> d16;
  const hn::Rebind<uint8_t, decltype(d16)> d8;
  const hn::RepartitionToWide<decltype(d16)> d32;
  const hn::Repartition<int64_t, decltype(d16)> d64;
  constexpr int kParts = 64 / hn::MaxLanes(d16);
  hn::Vec<decltype(d32)> sum[kParts], unused = hn::Zero(d32);
  for (int i = 0; i < kParts; ++i) sum[i] = hn::Zero(d32);
  for (int c = begin; c < end; ++c) {
    int64_t four;
    std::memcpy(&four, x + 4 * c, 8);
    const auto xs = hn::BitCast(d16, hn::Set(d64, four));
    for (int i = 0; i < kParts; ++i) {
      const auto codes = hn::PromoteTo(d16, hn::LoadU(d8, w + 64 * c + i * static_cast<int>(hn::MaxLanes(d16))));
      sum[i] = hn::ReorderWidenMulAccumulate(d32, codes, xs, sum[i], unused);  // on x86 of neighbours, all in the first
    }
  }
  for (int i = 0; i < kParts; i += 2) {
    const auto even = hn::ConcatEven(d32, sum[i + 1], sum[i]), odd = hn::ConcatOdd(d32, sum[i + 1], sum[i]);
    hn::StoreU(hn::Add(even, odd), d32, to + i / 2 * static_cast<int>(hn::MaxLanes(d32)));
  }
}
#else
HWY_INLINE void Dot(const uint8_t* w, const int16_t* x, int begin, int end, int32_t* to) {
  for (int64_t r = 0; r < kQuantRows; ++r) to[r] = 0;
  for (int c = begin; c < end; ++c) {
    for (int64_t r = 0; r < kQuantRows; ++r) {
      for (int j = 0; j < 4; ++j) to[r] += w[64 * c + 4 * r + j] * x[4 * c + j];
    }
  }
}
#endif

// sum += (t - shift) * (scale * unit)
HWY_INLINE void AddScaled(const int32_t* t, int32_t shift, const float* scale, float unit, float* sum) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToSigned<decltype(d)> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < kQuantRows; r += lanes) {
    const auto factor = hn::Mul(hn::LoadU(d, scale + r), hn::Set(d, unit));
    const auto shifted = hn::Sub(hn::LoadU(di, t + r), hn::Set(di, shift));
    hn::StoreU(hn::MulAdd(hn::ConvertTo(d, shifted), factor, hn::LoadU(d, sum + r)), d, sum + r);
  }
}
HWY_INLINE void AddLift(const float* min, float lift, float* sum) {
  const hn::CappedTag<float, 16> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < kQuantRows; r += lanes) {
    hn::StoreU(hn::MulAdd(hn::LoadU(d, min + r), hn::Set(d, lift), hn::LoadU(d, sum + r)), d, sum + r);
  }
}

// q[i] = 128 high + low
HWY_INLINE void JoinPlanes(const ActivationRun& a, int16_t* q) {
  const hn::CappedTag<int16_t, 16> d;
  const hn::Rebind<int8_t, decltype(d)> d8;
  for (int64_t i = 0; i < kQuantRun; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto high = hn::PromoteTo(d, hn::LoadU(d8, a.high + i)), low = hn::PromoteTo(d, hn::LoadU(d8, a.low + i));
    hn::StoreU(hn::Add(hn::ShiftLeft<7>(high), low), d, q + i);
  }
}

void GroupProduct(const ActivationRun* x, int64_t rows, const QuantMatrixView& m, int64_t group, float* out) {
  const QuantFormat& f = QuantFormatOf(m.type);
  const QuantGroup g = m.Group(group);
  const int64_t runs = m.cols / kQuantRun;
  const float lift_sign = f.elements == 256 ? -1.0f : 1.0f;
  std::fill_n(out, rows * kQuantRows, 0.0f);
  ReadHeads(g.head, g.low);
  alignas(64) uint8_t w[512];
  QuantScales scales;
  for (int64_t run = 0; run < runs; ++run) {
    AskBehindBlocks(g.low + run * f.low, f.low);
    LoadCodes(f, g.high + run * f.high, g.low + run * f.low, w);
    LoadScales(f, g.head, run, scales);
    for (int64_t r = 0; r < rows; ++r) {
      const ActivationRun& a = x[r * runs + run];
      float* sum = out + r * kQuantRows;
      int16_t q[kQuantRun];
      JoinPlanes(a, q);
      int32_t t[kQuantRows];
      const auto add = [&](int begin, int end, int32_t of_x, const float* scale) HWY_ATTR {
        Dot(w, q, begin, end, t);
        AddScaled(t, f.bias * of_x, scale, a.scale, sum);
      };
      if (f.type == GgmlType::kQ6_K) {
        add(0, 4, a.sum[0], scales.first);
        add(4, 8, a.sum[1], scales.second);
      } else {
        const int32_t total = a.sum[0] + a.sum[1];
        add(0, 8, total, scales.first);
        if (f.head > 2) AddLift(scales.second, lift_sign * (a.scale * static_cast<float>(total)), sum);
      }
    }
  }
}

// Columns [first, first + 16) of y, those that there are.
void StoreGroup(const float* sums, int64_t first, MatrixView y, bool add) {
  const hn::CappedTag<float, 16> d;
  const int64_t n = std::min(kQuantRows, y.cols - first), lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < y.rows; ++r, sums += kQuantRows) {
    int64_t i = 0;
    if (y.dtype == DType::kBF16) {
      BF16* to = y.As<BF16>(r) + first;
      for (; i + lanes <= n; i += lanes) StoreFloats(hn::LoadU(d, sums + i), d, to + i);
      for (; i < n; ++i) to[i] = ToBF16(sums[i]);
    } else {
      float* to = y.F32(r) + first;
      for (; i + lanes <= n; i += lanes) {
        const auto sum = hn::LoadU(d, sums + i);
        hn::StoreU(add ? hn::Add(hn::LoadU(d, to + i), sum) : sum, d, to + i);
      }
      for (; i < n; ++i) to[i] = add ? to[i] + sums[i] : sums[i];
    }
  }
}

bool MayUseVnni() { return HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3; }

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(RoundRows);
HWY_EXPORT(GroupProduct);
HWY_EXPORT(StoreGroup);
HWY_EXPORT(MayUseVnni);

std::atomic<bool> vnni_instructions{HasAvx512Vnni()};

}  // namespace

bool UsesVnni() { return vnni_instructions.load(std::memory_order_relaxed) && HWY_DYNAMIC_DISPATCH(MayUseVnni)(); }
void AllowVnni(bool allowed) { vnni_instructions.store(allowed && HasAvx512Vnni()); }

void QuantRowsProduct(ConstMatrixView x, const QuantMatrixView& w, MatrixView y, bool add) {
  CHECK_EQ(x.rows, y.rows);
  CHECK(x.cols == w.cols && y.cols == w.rows);
  CHECK(!add || y.dtype == DType::kF32);
  if (x.rows == 0) return;
  thread_local std::vector<ActivationRun> rounded;
  const int64_t runs = x.cols / kQuantRun;
  rounded.resize(static_cast<size_t>(x.rows * runs));
  HWY_DYNAMIC_DISPATCH(RoundRows)(x, rounded.data());
  const ActivationRun* rows = rounded.data();
  const auto product = UsesVnni() ? QuantGroupVnni : HWY_DYNAMIC_DISPATCH(GroupProduct);
  // A task reads some 64 KiB of the weight: around five microseconds.
  const int64_t groups = (w.rows + kQuantRows - 1) / kQuantRows;
  const int64_t grain = std::max<int64_t>(1, 65536 / w.group_bytes());
  ParallelForRanges(groups, grain, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[kFewQuantRows * kQuantRows];
    for (int64_t group = begin; group < end; ++group) {
      for (int64_t r = 0; r < x.rows; r += kFewQuantRows) {
        const int64_t count = std::min(kFewQuantRows, x.rows - r);
        product(rows + r * runs, count, w, group, sums);
        HWY_DYNAMIC_DISPATCH(StoreGroup)(sums, group * kQuantRows, y.Rows(r, count), add);
      }
    }
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
