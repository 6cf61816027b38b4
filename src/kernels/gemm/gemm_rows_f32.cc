#include "kernels/gemm/gemm_rows_f32.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "kernels/gemm/gemm_tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/gemm_rows_f32.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

#ifndef TAIPAN_FEW_ROWS_F32_
#define TAIPAN_FEW_ROWS_F32_
namespace taipan {
namespace {

struct FewRows {
  ConstMatrixView x, w;
  MatrixView y;
  bool add;
  int64_t chain;
};

}  // namespace
}  // namespace taipan
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2

constexpr int64_t kMostRows = 8;  // of x in one pass over a group of the weight's rows
const hn::CappedTag<float, 16> kFloats;
using Floats = hn::Vec<decltype(kFloats)>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(kFloats));

// Four columns of kLanes rows, a vector each. `rows` are those rows at the first of the columns.
HWY_INLINE void LoadColumns(const float* const* rows, int64_t k, Floats* columns) {
  const hn::FixedTag<float, 4> quarter;
  const hn::FixedTag<float, 8> half;
  Floats v[4];  // of rows j, j + 4, ...: four columns each
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const auto pair = [&](int r) HWY_ATTR {
      return hn::Combine(half, hn::LoadU(quarter, rows[r + 4] + k), hn::LoadU(quarter, rows[r] + k));
    };
#if HWY_TARGET <= HWY_AVX3
    v[j] = hn::Combine(kFloats, pair(j + 8), pair(j));
#else
    v[j] = pair(j);
#endif
  }
  const hn::Repartition<uint64_t, decltype(kFloats)> d64;
  const auto wide = [&](Floats x) HWY_ATTR { return hn::BitCast(d64, x); };
  const Floats low01 = hn::InterleaveLower(kFloats, v[0], v[1]), low23 = hn::InterleaveLower(kFloats, v[2], v[3]);
  const Floats high01 = hn::InterleaveUpper(kFloats, v[0], v[1]), high23 = hn::InterleaveUpper(kFloats, v[2], v[3]);
  columns[0] = hn::BitCast(kFloats, hn::InterleaveLower(d64, wide(low01), wide(low23)));
  columns[1] = hn::BitCast(kFloats, hn::InterleaveUpper(d64, wide(low01), wide(low23)));
  columns[2] = hn::BitCast(kFloats, hn::InterleaveLower(d64, wide(high01), wide(high23)));
  columns[3] = hn::BitCast(kFloats, hn::InterleaveUpper(d64, wide(high01), wide(high23)));
}

// What memory is asked for meanwhile: the next group's rows, in the order of their addresses.
HWY_INLINE void AskForPart(const float* next, int64_t k) {
  const char* from = reinterpret_cast<const char*>(next + k * kLanes);
#pragma GCC unroll 4
  for (int i = 0; i < 4 * kLanes * 4; i += 64) __builtin_prefetch(from + i, 0, 2);
}

// kRows rows of y from row r on, columns [n, n + kLanes).
template <int kRows>
void Group(const FewRows& p, int64_t r, int64_t n) {
  const float* rows[kLanes];
  for (int i = 0; i < kLanes; ++i) rows[i] = p.w.F32(std::min(n + i, p.w.rows - 1));
  const float* x[kRows];
  Floats total[kRows];
  const size_t count = static_cast<size_t>(std::min<int64_t>(kLanes, p.y.cols - n));
  for (int i = 0; i < kRows; ++i) {
    x[i] = p.x.F32(r + i);
    total[i] = hn::Zero(kFloats);
    if (p.add) total[i] = hn::MaskedLoad(hn::FirstN(kFloats, count), kFloats, p.y.F32(r + i) + n);
  }
  for (int64_t begin = 0; begin < p.w.cols;) {
    const int64_t end = begin + ChainColumns(p.w.cols - begin, p.chain);
    Floats sum[kRows];
    for (int i = 0; i < kRows; ++i) sum[i] = hn::Zero(kFloats);
    int64_t k = begin;
    for (; k + 4 <= end; k += 4) {
      Floats column[4];
      AskForPart(rows[0] + kLanes * p.w.stride, k);
      LoadColumns(rows, k, column);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) sum[i] = hn::MulAdd(column[j], hn::Set(kFloats, x[i][k + j]), sum[i]);
      }
    }
    for (; k < end; ++k) {
      HWY_ALIGN float column[kLanes];
      for (int i = 0; i < kLanes; ++i) column[i] = rows[i][k];
      for (int i = 0; i < kRows; ++i) {
        sum[i] = hn::MulAdd(hn::Load(kFloats, column), hn::Set(kFloats, x[i][k]), sum[i]);
      }
    }
    for (int i = 0; i < kRows; ++i) total[i] = begin == 0 && !p.add ? sum[i] : hn::Add(total[i], sum[i]);
    begin = end;
  }
  for (int i = 0; i < kRows; ++i) {
    hn::BlendedStore(total[i], hn::FirstN(kFloats, count), kFloats, p.y.F32(r + i) + n);
  }
}

template <int kRows>
HWY_INLINE void GroupOf(const FewRows& p, int64_t rows, int64_t r, int64_t n) {
  if constexpr (kRows > 0) {
    rows == kRows ? Group<kRows>(p, r, n) : GroupOf<kRows - 1>(p, rows, r, n);
  }
}

void Range(const FewRows& p, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; n += kLanes) {
    for (int64_t r = 0; r < p.x.rows; r += kMostRows) {
      GroupOf<kMostRows>(p, std::min(kMostRows, p.x.rows - r), r, n);
    }
  }
}
bool HasRange() { return true; }

#else

void Range(const FewRows&, int64_t, int64_t) { CHECK(false); }
bool HasRange() { return false; }

#endif

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(Range);
HWY_EXPORT(HasRange);

// Of two kernels of oneDNN: one for small products, one that packs its operands.
bool SameBits(int64_t n, int64_t k) {
  const RowRule rule = RowRuleOf(DType::kF32);
  std::vector<float> x(static_cast<size_t>(rule.least * k)), w(static_cast<size_t>(n * k));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 2003) / 2003 - 0.5f;
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i * 6007 % 1999) / 1999 - 0.5f;
  std::vector<float> many(static_cast<size_t>(rule.least * n)), few(many.size());
  TileProduct(k, DType::kF32, {x.data(), k, false}, {w.data(), k, true}, MatrixView(many.data(), rule.least, n), false);
  const ConstMatrixView xs(x.data(), rule.least, k), ws(w.data(), n, k);
  HWY_DYNAMIC_DISPATCH(Range)({xs, ws, MatrixView(few.data(), rule.least, n), false, rule.chain}, 0, n);
  return std::memcmp(few.data(), many.data(), few.size() * sizeof(float)) == 0;
}

bool TrialGivesTheSameBits() {
  const int64_t chain = RowRuleOf(DType::kF32).chain;
  return SameBits(64, 37) && SameBits(64, chain) && SameBits(256, 37) && SameBits(256, chain);
}

}  // namespace

bool FewRowsMatchInF32(int64_t weight_rows) {
  if (!HWY_DYNAMIC_DISPATCH(HasRange)()) return false;
  static const bool same = TrialGivesTheSameBits();
  // Tiles of one column are another kernel's; without AVX-512 others than full vectors are, too.
  return same && (ActiveProductIsa() >= ProductIsa::kAvx512 ? weight_rows % 64 != 1 : weight_rows % 64 == 0);
}

void FewRowsProductF32(ConstMatrixView x, ConstMatrixView w, MatrixView y, bool add) {
  CHECK_EQ(x.rows, y.rows);
  CHECK(x.cols == w.cols && y.cols == w.rows);
  const FewRows product{x, w, y, add, RowRuleOf(DType::kF32).chain};
  // A task reads some 128 KiB of the weight, in whole groups.
  const int64_t grain = 16 * std::max<int64_t>(1, 2048 / std::max<int64_t>(1, x.cols));
  ParallelForRanges(w.rows, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(Range)(product, begin, end);
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
