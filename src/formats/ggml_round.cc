#include "formats/ggml_round.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "tensor/f16.h"
#include "tensor/ggml_codes.h"

namespace taipan {
namespace {

constexpr int kMostRun = 32;  // weights that share a scale; 16 in Q6_K

// To nearest, by a number whose last bit is 1; |x| < 2^22.
inline float Nearest(float x) { return (x + 12582912.0f) - 12582912.0f; }

// Of n weights of a block from `begin` on. Large weights matter more than small ones: what they are multiplied by adds
// up in their direction.
void WeighErrors(const BlockInput& in, int begin, int n, float* weights) {
  if (in.importance != nullptr) {
    std::copy_n(in.importance + begin, n, weights);
    return;
  }
  const float* x = in.x + begin;
  float squares = 0;
  for (int i = 0; i < n; ++i) squares += x[i] * x[i];
  const float mean = squares / static_cast<float>(n);
  for (int i = 0; i < n; ++i) weights[i] = std::sqrt(mean + x[i] * x[i]);
}

// Levels low ... high, whole numbers; code 0 is the lowest.
struct WholeLevels {
  float low, high;
  float At(float x) const { return std::min(std::max(Nearest(x), low), high); }
  uint8_t Code(float x) const { return static_cast<uint8_t>(At(x) - low); }
};

// Those of IQ4_NL, from the middles between neighbours.
struct TableLevels {
  static constexpr float kLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  float low = -127, high = 113;
  float At(float x) const {
    float level = kLevels[0];
    for (int i = 1; i < 16; ++i) level = x > (kLevels[i - 1] + kLevels[i]) / 2 ? kLevels[i] : level;
    return level;
  }
  uint8_t Code(float x) const {
    int code = 0;
    for (int i = 1; i < 16; ++i) code += x > (kLevels[i - 1] + kLevels[i]) / 2;
    return static_cast<uint8_t>(code);
  }
};

// The scale d whose levels are best, of those that put the largest weight near either end: for given levels d is a
// weighted mean; what it saves is (sum w x l)^2 / sum w l^2.
template <class Levels>
float BestScale(const Levels& levels, const float* x, const float* weights, int n) {
  float most = 0;
  for (int i = 0; i < n; ++i) most = std::abs(x[i]) > std::abs(most) ? x[i] : most;
  if (std::abs(most) < 1e-30f) return 0;
  float best = 0, saved = 0;
  const auto attempt = [&](float d) {
    const float inverse = 1 / d;
    float xl = 0, ll = 0;
    for (int i = 0; i < n; ++i) {
      const float level = levels.At(x[i] * inverse), w = weights[i];
      xl += w * x[i] * level;
      ll += w * level * level;
    }
    if (ll <= 0 || xl * xl <= saved * ll) return false;
    saved = xl * xl / ll;
    best = xl / ll;
    return true;
  };
  constexpr int kSteps = 10;
  for (const float end : {levels.low, levels.high}) {
    for (int step = -kSteps; step <= kSteps; ++step) {
      attempt(most / (end * (1 + 0.0125f * static_cast<float>(step))));
    }
  }
  for (int round = 0; round < 4 && attempt(best); ++round) continue;
  return best;
}

// The scale and the (negative or zero) offset m of codes 0 ... top: x = d code + m.
struct Affine {
  float d = 0, m = 0;
};
Affine BestAffine(float top, bool negative, const float* x, const float* weights, int n) {
  float low = negative ? 0.0f : x[0], high = x[0], w_sum = 0, x_sum = 0;
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    w_sum += weights[i];
    x_sum += weights[i] * x[i];
  }
  if (high - low < 1e-30f) return {0, low};
  Affine best = {(high - low) / top, low};
  float least = -1;
  const auto attempt = [&](Affine from) {
    const float inverse = 1 / from.d;
    float q_sum = 0, qq = 0, xq = 0;
    for (int i = 0; i < n; ++i) {
      const float q = std::min(std::max(Nearest((x[i] - from.m) * inverse), 0.0f), top), w = weights[i];
      q_sum += w * q;
      qq += w * q * q;
      xq += w * x[i] * q;
    }
    const float determinant = w_sum * qq - q_sum * q_sum;
    if (determinant <= 0) return false;
    Affine to = {(w_sum * xq - x_sum * q_sum) / determinant, (qq * x_sum - q_sum * xq) / determinant};
    if (negative && to.m > 0) to = {xq / qq, 0};
    if (!(to.d > 0)) return false;
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float q = std::min(std::max(Nearest((x[i] - from.m) * inverse), 0.0f), top);
      const float off = to.d * q + to.m - x[i];
      error += weights[i] * off * off;
    }
    if (least >= 0 && error >= least) return false;
    least = error;
    best = to;
    return true;
  };
  constexpr int kSteps = 12;
  for (int step = -kSteps; step <= kSteps; ++step)
    attempt({(high - low) / (top + 0.1f * static_cast<float>(step)), low});
  for (int round = 0; round < 4 && attempt(best); ++round) continue;
  return best;
}

// As half precision; false where it is out of range or not a number.
bool PutHalf(float value, uint8_t* to, float* stored) {
  const F16 half = ToF16(value);
  std::memcpy(to, &half, sizeof half);
  *stored = ToFloat(half);
  return std::abs(value) < 65520.0f;
}

float InverseOf(float d) { return d == 0 ? 0.0f : 1 / d; }

void SetRun(BlockGrid& grid, int run, float step, float offset) {
  grid.step[run] = step;
  grid.inverse[run] = InverseOf(step);
  grid.offset[run] = offset;
}

template <class Levels>
bool ChooseSymmetric(const Levels& levels, const BlockInput& in, uint8_t* to, BlockGrid& grid) {
  float weights[kMostRun], d;
  WeighErrors(in, 0, kMostRun, weights);
  const bool fits = PutHalf(BestScale(levels, in.x, weights, kMostRun), to, &d);
  SetRun(grid, 0, d, 0);
  return fits;
}

// As ggml does, but for the codes, which then come from the scale as it is stored.
bool ChooseQ8_0(const BlockInput& in, uint8_t* to, BlockGrid& grid) {
  float most = 0, d;
  for (int i = 0; i < kMostRun; ++i) most = std::max(most, std::abs(in.x[i]));
  const bool fits = PutHalf(most / 127, to, &d);
  SetRun(grid, 0, d, 0);
  return fits;
}

bool ChooseAffine(const BlockInput& in, uint8_t* to, BlockGrid& grid) {
  float weights[kMostRun], d, m;
  WeighErrors(in, 0, kMostRun, weights);
  const Affine best = BestAffine(grid.high, /*negative=*/false, in.x, weights, kMostRun);
  const bool fits = PutHalf(best.d, to, &d) & PutHalf(best.m, to + 2, &m);
  SetRun(grid, 0, d, m);
  return fits;
}

// Eight scales and minima of six bits in twelve bytes (UnpackScale of tensor/ggml_blocks.cc).
void PackScales(const uint8_t* scales, const uint8_t* mins, uint8_t* to) {
  for (int i = 0; i < 4; ++i) {
    to[i] = static_cast<uint8_t>(scales[i] | scales[i + 4] >> 4 << 6);
    to[i + 4] = static_cast<uint8_t>(mins[i] | mins[i + 4] >> 4 << 6);
    to[i + 8] = static_cast<uint8_t>((scales[i + 4] & 15) | (mins[i + 4] & 15) << 4);
  }
}

// Q4_K, Q5_K: eight runs, each with a scale and a minimum that are multiples of two numbers of the block.
bool ChooseAffineRuns(const BlockInput& in, uint8_t* to, BlockGrid& grid) {
  constexpr int kRuns = 8;
  constexpr float kSteps = 63;
  float weights[kMostRun], most_d = 0, most_min = 0, d, dmin;
  Affine best[kRuns];
  for (int r = 0; r < kRuns; ++r) {
    WeighErrors(in, r * kMostRun, kMostRun, weights);
    best[r] = BestAffine(grid.high, /*negative=*/true, in.x + r * kMostRun, weights, kMostRun);
    most_d = std::max(most_d, best[r].d);
    most_min = std::max(most_min, -best[r].m);
  }
  const bool fits = PutHalf(most_d / kSteps, to, &d) & PutHalf(most_min / kSteps, to + 2, &dmin);
  uint8_t scales[kRuns], mins[kRuns];
  for (int r = 0; r < kRuns; ++r) {
    scales[r] = static_cast<uint8_t>(std::min(Nearest(best[r].d * InverseOf(d)), kSteps));
    mins[r] = static_cast<uint8_t>(std::min(Nearest(-best[r].m * InverseOf(dmin)), kSteps));
    SetRun(grid, r, d * scales[r], -dmin * mins[r]);
  }
  PackScales(scales, mins, to + 4);
  return fits;
}

// 16 runs of 16, each with a scale that is a multiple of one number of the block.
bool ChooseQ6_K(const BlockInput& in, uint8_t* to, BlockGrid& grid) {
  constexpr int kRuns = 16, kSize = 16;
  float weights[kSize], best[kRuns], most = 0, d;
  for (int r = 0; r < kRuns; ++r) {
    WeighErrors(in, r * kSize, kSize, weights);
    best[r] = BestScale(WholeLevels{grid.low, grid.high}, in.x + r * kSize, weights, kSize);
    most = std::abs(best[r]) > std::abs(most) ? best[r] : most;
  }
  const bool fits = PutHalf(most / -128, to + 208, &d);
  for (int r = 0; r < kRuns; ++r) {
    const float scale = std::min(std::max(Nearest(best[r] * InverseOf(d)), -128.0f), 127.0f);
    to[192 + r] = static_cast<uint8_t>(static_cast<int8_t>(scale));
    SetRun(grid, r, d * scale, 0);
  }
  return fits;
}

bool RoundBlock(GgmlType type, const float* x, uint8_t* to) {
  BlockGrid grid;
  const bool fits = ChooseScales(type, {x}, to, grid);
  uint8_t codes[kMostBlockElements];
  for (int i = 0; i < BlockElements(type); ++i) codes[i] = grid.Code(i, x[i]);
  SetBlockCodes(type, codes, to);
  return fits;
}

}  // namespace

uint8_t BlockGrid::Code(int i, float x) const {
  const int run = i >> run_bits;
  const float scaled = (x - offset[run]) * inverse[run];
  return table ? TableLevels().Code(scaled) : WholeLevels{low, high}.Code(scaled);
}

float BlockGrid::Value(int i, uint8_t code) const {
  const int run = i >> run_bits;
  return step[run] * (table ? TableLevels::kLevels[code] : static_cast<float>(code) + low) + offset[run];
}

bool ChooseScales(GgmlType type, const BlockInput& in, uint8_t* to, BlockGrid& grid) {
  const auto levels = [&](float low, float high) {
    grid.low = low;
    grid.high = high;
    return WholeLevels{low, high};
  };
  switch (type) {
    case GgmlType::kQ4_0:
      return ChooseSymmetric(levels(-8, 7), in, to, grid);
    case GgmlType::kQ5_0:
      return ChooseSymmetric(levels(-16, 15), in, to, grid);
    case GgmlType::kQ8_0:
      levels(-128, 127);
      return ChooseQ8_0(in, to, grid);
    case GgmlType::kIQ4_NL:
      grid.table = true;
      return ChooseSymmetric(TableLevels(), in, to, grid);
    case GgmlType::kQ4_1:
    case GgmlType::kQ5_1:
      levels(0, type == GgmlType::kQ4_1 ? 15 : 31);
      return ChooseAffine(in, to, grid);
    case GgmlType::kQ4_K:
    case GgmlType::kQ5_K:
      levels(0, type == GgmlType::kQ4_K ? 15 : 31);
      return ChooseAffineRuns(in, to, grid);
    default:
      CHECK(type == GgmlType::kQ6_K);
      levels(-32, 31);
      grid.run_bits = 4;
      return ChooseQ6_K(in, to, grid);
  }
}

bool CanRound(GgmlType type) { return HasBlockCodes(type) && type != GgmlType::kQ8_0; }

bool RoundToBlocks(GgmlType type, const float* from, int64_t n, uint8_t* to) {
  const int64_t elements = BlockElements(type), bytes = BlockBytes(type);
  for (int64_t i = 0; i < n; i += elements, to += bytes) {
    const bool finite = std::all_of(from + i, from + i + elements, [](float x) { return std::abs(x) <= kMostRounded; });
    if (!finite || !RoundBlock(type, from + i, to)) return false;
  }
  return true;
}

}  // namespace taipan
