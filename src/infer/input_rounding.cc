#include "infer/input_rounding.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "formats/ggml_round.h"
#include "kernels/gemm/gemm.h"
#include "tensor/ggml_codes.h"

namespace taipan {
namespace {

constexpr int64_t kPanel = 64;                  // columns that are eliminated together
constexpr int64_t kGroup = kMostBlockElements;  // columns that are rounded together, whole blocks
constexpr int64_t kTile = 16;                   // rows of weights side by side

// a[0 ... n) -= f b[0 ... n)
void Subtract(double f, const double* __restrict b, int64_t n, double* __restrict a) {
  for (int64_t i = 0; i < n; ++i) a[i] -= f * b[i];
}

// Row k of `a` [n, n], the lower triangle of H, becomes U_jk (j < k) and D_k at k, from the last to the first.
void Factorise(std::vector<double>& a, int64_t n) {
  const auto row = [&](int64_t i) { return a.data() + i * n; };
  for (int64_t end = n; end > 0; end -= std::min(end, kPanel)) {
    const int64_t begin = std::max<int64_t>(0, end - kPanel);
    for (int64_t k = end - 1; k >= begin; --k) {
      const double d = row(k)[k];
      for (int64_t j = 0; j < k; ++j) row(k)[j] /= d;
      for (int64_t i = begin; i < k; ++i) Subtract(d * row(k)[i], row(k), i + 1, row(i));
    }
    ParallelForRanges(begin, kTile, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        for (int64_t k = begin; k < end; ++k) Subtract(row(k)[k] * row(k)[i], row(k), i + 1, row(i));
      }
    });
  }
}

// A tile's columns of a group, kTile rows side by side: how the errors of earlier groups have moved the weights, and
// what rounding has changed them by.
struct TileGroup {
  GgmlType type;
  const InputFactor& factor;
  int64_t first = 0, rows = 0;  // the group's first column; rows of the tile that are there
  float moved[kGroup * kTile] = {}, weights[kGroup * kTile] = {}, errors[kGroup * kTile] = {};

  // Moves column i of the group by the errors of its columns [begin, end).
  void Move(int64_t i, int64_t begin, int64_t end) {
    const float* u = factor.Feedback().F32(first + i) + first;
    float sum[kTile];
    std::copy_n(moved + i * kTile, kTile, sum);
    for (int64_t j = begin; j < end; ++j) {
      for (int64_t r = 0; r < kTile; ++r) sum[r] += u[j] * errors[j * kTile + r];
    }
    std::copy_n(sum, kTile, moved + i * kTile);
  }

  // The block of columns from `begin` of the group on; to: of row r at r * row_bytes.
  bool RoundBlock(int64_t begin, uint8_t* to, int64_t row_bytes) {
    const int64_t n = BlockElements(type);
    for (int64_t i = begin; i < begin + n; ++i) Move(i, 0, begin);
    BlockGrid grids[kTile];
    uint8_t codes[kTile][kMostBlockElements];
    for (int64_t r = 0; r < rows; ++r) {
      float x[kMostBlockElements];
      for (int64_t i = 0; i < n; ++i) x[i] = moved[(begin + i) * kTile + r];
      const bool finite = std::all_of(x, x + n, [](float v) { return std::abs(v) <= kMostRounded; });
      const BlockInput in = {x, factor.Importance() + first + begin};
      if (!finite || !ChooseScales(type, in, to + r * row_bytes, grids[r])) return false;
    }
    for (int64_t i = 0; i < n; ++i) {
      Move(begin + i, begin, begin + i);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = (begin + i) * kTile + r;
        codes[r][i] = grids[r].Code(static_cast<int>(i), moved[at]);
        errors[at] = weights[at] - grids[r].Value(static_cast<int>(i), codes[r][i]);
      }
    }
    for (int64_t r = 0; r < rows; ++r) SetBlockCodes(type, codes[r], to + r * row_bytes);
    return true;
  }
};

}  // namespace

InputFactor::InputFactor(const Tensor& moments, double damping) {
  const int64_t n = moments.shape()[0];
  CHECK_EQ(n, moments.shape()[1]);
  std::vector<double> a(moments.F32(), moments.F32() + n * n);
  const auto diagonal = [&](int64_t i) -> double& { return a[static_cast<size_t>(i * n + i)]; };
  double mean = 0;
  for (int64_t i = 0; i < n; ++i) mean += diagonal(i) / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) diagonal(i) += mean > 0 ? damping * mean : 1;
  Factorise(a, n);
  for (int64_t i = 0; i < n; ++i) importance_.push_back(static_cast<float>(diagonal(i)));
  feedback_ = Tensor({n, n});
  std::transform(a.begin(), a.end(), feedback_.F32(), [](double x) { return static_cast<float>(x); });
}

bool RoundForInputs(GgmlType type, const Tensor& values, const InputFactor& factor, uint8_t* to) {
  const int64_t rows = values.shape()[0], cols = factor.size(), block = BlockElements(type), bytes = BlockBytes(type);
  const int64_t row_bytes = cols / block * bytes;
  CHECK_EQ(values.shape()[1], cols);
  CHECK_EQ(cols % block, 0);
  Tensor errors({rows, cols}), moved({rows, std::min(kGroup, cols)});
  std::atomic<bool> fits = true;
  for (int64_t first = 0; first < cols && fits; first += kGroup) {
    const int64_t width = std::min(kGroup, cols - first);
    const MatrixView at = moved.Matrix().Cols(0, width);
    CopyMatrix(values.Matrix().Cols(first, width), at);
    const LinearWeight feedback = {factor.Feedback().Rows(first, width).Cols(0, first)};
    if (first > 0) Linear(errors.Matrix().Cols(0, first), feedback, at, Accumulate::kAdd);
    ParallelForRanges(rows, kTile, [&](int64_t begin, int64_t end) {
      TileGroup tile{.type = type, .factor = factor, .first = first, .rows = end - begin};
      const auto each = [&](const auto& visit) {
        for (int64_t r = begin; r < end; ++r) {
          for (int64_t i = 0; i < width; ++i) visit(r, i, i * kTile + r - begin);
        }
      };
      each([&](int64_t r, int64_t i, int64_t in_tile) {
        tile.moved[in_tile] = at.F32(r)[i];
        tile.weights[in_tile] = values.Matrix().F32(r)[first + i];
      });
      for (int64_t b = 0; b < width && fits; b += block) {
        if (!tile.RoundBlock(b, to + begin * row_bytes + (first + b) / block * bytes, row_bytes)) fits = false;
      }
      each([&](int64_t r, int64_t i, int64_t in_tile) { errors.Matrix().F32(r)[first + i] = tile.errors[in_tile]; });
    });
  }
  return fits;
}

}  // namespace taipan
