#include "kernels/causal_conv1d.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "kernels/tile_partials.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/causal_conv1d.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

// Work is cut into tiles of kRowTile rows of x by kChannels channels, whatever the segments are; a tile visits the
// segments that it meets. So decoding many sequences transposes the weights once a tile, not once a sequence, and a
// row's sums have the same order wherever segments begin.

#ifndef TAIPAN_KERNELS_CAUSAL_CONV1D_TARGET_INDEPENDENT
#define TAIPAN_KERNELS_CAUSAL_CONV1D_TARGET_INDEPENDENT
namespace taipan {
namespace {

constexpr int64_t kMaxWidth = 8;
constexpr int64_t kChannels = 256;  // weights of a block: 9 KiB on the stack; a multiple of every vector's lanes
constexpr int64_t kRowTile = TilePartials::kRows;

alignas(64) constexpr float kZeros[kChannels] = {};

struct ConvCall {
  ConstMatrixView x;
  const float* weight;
  const float* bias;
  int64_t width;
  std::span<const ConvSegment> segments;
};

struct ChannelBlock {
  int64_t begin, count;
};

// Row v of a run's input from channel `channel` on; v in [-(W-1), 0) are the state's rows.
inline const float* InputRow(const ConvCall& call, const ConvSegment& segment, int64_t v, int64_t channel) {
  if (v >= 0) return call.x.F32(segment.begin + v) + channel;
  if (segment.state_in == nullptr) return kZeros;
  return segment.state_in + (v + call.width - 1) * call.x.cols + channel;
}

// f(segment, begin, end): the rows of each run that lie in rows [first, last) of x, counted from the run's start.
template <class F>
void ForRunsInRows(std::span<const ConvSegment> segments, int64_t first, int64_t last, F&& f) {
  for (const ConvSegment& segment : segments) {
    const int64_t begin = std::max(segment.begin, first), end = std::min(segment.begin + segment.length, last);
    if (begin < end) f(segment, begin - segment.begin, end - segment.begin);
  }
}

// f(first_row, last_row, channels) for every tile, in parallel where that pays.
template <class F>
void ForTiles(const ConvCall& call, F&& f) {
  const int64_t blocks = (call.x.cols + kChannels - 1) / kChannels;
  const int64_t tiles = (call.x.rows + kRowTile - 1) / kRowTile * blocks;
  const auto run = [&](int64_t tile) {
    const int64_t row = tile / blocks * kRowTile, channel = tile % blocks * kChannels;
    f(row, std::min(row + kRowTile, call.x.rows), ChannelBlock{channel, std::min(kChannels, call.x.cols - channel)});
  };
  if (call.x.rows * call.x.cols <= kRowTile * kChannels) {
    for (int64_t tile = 0; tile < tiles; ++tile) run(tile);
  } else {
    ParallelFor(tiles, run);
  }
}

}  // namespace
}  // namespace taipan
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

// The weights of a block of channels, transposed so that channels are adjacent, with zeros after the last one.
struct Taps {
  HWY_ALIGN float weight[kMaxWidth][kChannels];
  HWY_ALIGN float bias[kChannels];

  Taps(const ConvCall& call, ChannelBlock block) {
    const float* from = call.weight + block.begin * call.width;
    int64_t c = 0;
#if HWY_TARGET != HWY_SCALAR
    if (call.width == 4) {
      const FloatTag d;
      const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
      for (; c + lanes <= block.count; c += lanes) {
        FloatVec w0, w1, w2, w3;
        hn::LoadInterleaved4(d, from + c * 4, w0, w1, w2, w3);
        hn::Store(w0, d, weight[0] + c);
        hn::Store(w1, d, weight[1] + c);
        hn::Store(w2, d, weight[2] + c);
        hn::Store(w3, d, weight[3] + c);
      }
    }
#endif
    for (; c < block.count; ++c) {
      for (int64_t k = 0; k < call.width; ++k) weight[k][c] = from[c * call.width + k];
    }
    for (c = 0; c < block.count; ++c) bias[c] = call.bias[block.begin + c];
    const int64_t filled = block.count;
    for (c = filled; c < kChannels; ++c) {
      for (int64_t k = 0; k < call.width; ++k) weight[k][c] = 0.0f;
      bias[c] = 0.0f;
    }
  }
};

// The W input rows under the taps of output row t.
struct Window {
  const float* rows[kMaxWidth];

  Window(const ConvCall& call, const ConvSegment& segment, int64_t t, int64_t channel) {
    for (int64_t k = 0; k < call.width; ++k) rows[k] = InputRow(call, segment, t - call.width + 1 + k, channel);
  }
};

template <class P>
HWY_INLINE FloatVec PreActivation(FloatTag d, const Taps& taps, const Window& window, int64_t width, int64_t i,
                                  P part) {
  FloatVec sum = hn::Load(d, taps.bias + i);
  for (int64_t k = 0; k < width; ++k) {
    sum = hn::MulAdd(hn::Load(d, taps.weight[k] + i), Load(d, window.rows[k] + i, part), sum);
  }
  return sum;
}

// kWidth 0: any width, known at run time only.
template <int kWidth>
void ConvRow(const Taps& taps, const Window& window, int64_t run_time_width, int64_t channels, float* y) {
  const FloatTag d;
  const int64_t width = kWidth > 0 ? kWidth : run_time_width;
  ForVectors(d, channels, [&](int64_t i, auto part) HWY_ATTR {
    Store(Silu(d, PreActivation(d, taps, window, width, i, part)), d, y + i, part);
  });
}

void ForwardTile(const ConvCall& call, int64_t first, int64_t last, ChannelBlock block, MatrixView y) {
  const Taps taps(call, block);
  ForRunsInRows(call.segments, first, last, [&](const ConvSegment& segment, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Window window(call, segment, t, block.begin);
      float* out = y.F32(segment.begin + t) + block.begin;
      if (call.width == 4) {
        ConvRow<4>(taps, window, 4, block.count, out);
      } else {
        ConvRow<0>(taps, window, call.width, block.count, out);
      }
    }
  });
}

// dL/d pre-activation of the last W rows, in a ring.
struct GradientRing {
  HWY_ALIGN float rows[kMaxWidth][kChannels];

  float* Row(int64_t t) { return rows[t & (kMaxWidth - 1)]; }
};

// Writes dp = dy silu'(p) of one output row to the ring.
void PreActivationGradientRow(const Taps& taps, const Window& window, int64_t width, int64_t channels, const float* dy,
                              float* dp) {
  const FloatTag d;
  ForVectors(d, channels, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec p = PreActivation(d, taps, window, width, i, part);
    hn::Store(hn::Mul(Load(d, dy + i, part), SiluDerivative(p, Sigmoid(d, p))), d, dp + i);
  });
}

// sums [W + 1, C] from the block's first channel on: row k += dp * input under tap k, row W += dp.
void AddWeightGradientRow(const float* dp, const Window& window, int64_t width, int64_t channels, float* sums,
                          int64_t stride) {
  const FloatTag d;
  ForVectors(d, channels, [&](int64_t i, auto part) HWY_ATTR {
    const FloatVec gradient = hn::Load(d, dp + i);
    for (int64_t k = 0; k < width; ++k) {
      float* sum = sums + k * stride + i;
      Store(hn::MulAdd(gradient, Load(d, window.rows[k] + i, part), Load(d, sum, part)), d, sum, part);
    }
    float* sum = sums + width * stride + i;
    Store(hn::Add(gradient, Load(d, sum, part)), d, sum, part);
  });
}

// dL/d input row v = what the next run's window gives (from; null: nothing) + sum_k w_k dp_{v+W-1-k}, latest first:
// a run cut in two adds the same terms in the same order.
void InputGradientRow(const Taps& taps, GradientRing& ring, int64_t v, int64_t width, int64_t channels,
                      const float* from, float* dx) {
  const FloatTag d;
  const float* dp[kMaxWidth];
  for (int64_t k = 0; k < width; ++k) dp[k] = ring.Row(v + width - 1 - k);
  ForVectors(d, channels, [&](int64_t i, auto part) HWY_ATTR {
    FloatVec sum = from != nullptr ? Load(d, from + i, part) : hn::Zero(d);
    for (int64_t k = 0; k < width; ++k) sum = hn::MulAdd(hn::Load(d, taps.weight[k] + i), hn::Load(d, dp[k] + i), sum);
    Store(sum, d, dx + i, part);
  });
}

// Rows [begin, end) of one run. They need the gradients of up to W-1 rows more, which those rows' tile computes again.
void BackwardRun(const ConvCall& call, const Taps& taps, const ConvSegment& segment, int64_t begin, int64_t end,
                 ChannelBlock block, ConstMatrixView dy, MatrixView dx, float* sums) {
  const int64_t reach = call.width - 1, stride = call.x.cols;
  GradientRing ring;
  const auto fill = [&](int64_t t) {
    if (t < 0 || t >= segment.length) {
      std::memcpy(ring.Row(t), kZeros, sizeof kZeros);
      return;
    }
    const Window window(call, segment, t, block.begin);
    const float* gradient = dy.F32(segment.begin + t) + block.begin;
    PreActivationGradientRow(taps, window, call.width, block.count, gradient, ring.Row(t));
    if (t >= begin && t < end) AddWeightGradientRow(ring.Row(t), window, call.width, block.count, sums, stride);
  };
  const int64_t start = begin == 0 && segment.dstate_in != nullptr ? -reach : begin;
  for (int64_t t = start; t < start + reach; ++t) fill(t);
  for (int64_t v = start; v < end; ++v) {
    fill(v + reach);
    const int64_t kept = v - (segment.length - reach);  // row of state_out that this input is, if any
    const float* from = nullptr;
    if (segment.dstate_out != nullptr && kept >= 0) from = segment.dstate_out + kept * stride + block.begin;
    float* to = v >= 0 ? dx.F32(segment.begin + v) : segment.dstate_in + (v + reach) * stride;
    InputGradientRow(taps, ring, v, call.width, block.count, from, to + block.begin);
  }
}

void ConvForwardSimd(const ConvCall& call, MatrixView y) {
  ForTiles(call, [&](int64_t first, int64_t last, ChannelBlock block) { ForwardTile(call, first, last, block, y); });
}

void ConvBackwardSimd(const ConvCall& call, ConstMatrixView dy, MatrixView dx, TilePartials& partials) {
  ForTiles(call, [&](int64_t first, int64_t last, ChannelBlock block) {
    const Taps taps(call, block);
    float* sums = partials.Tile(first) + block.begin;
    ForRunsInRows(call.segments, first, last, [&](const ConvSegment& segment, int64_t begin, int64_t end) {
      BackwardRun(call, taps, segment, begin, end, block, dy, dx, sums);
    });
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(ConvForwardSimd);
HWY_EXPORT(ConvBackwardSimd);

void CheckCall(const ConvCall& call) {
  CHECK(call.width >= 2 && call.width <= kMaxWidth);
  for (const ConvSegment& segment : call.segments) {
    CHECK(segment.begin >= 0 && segment.length >= 0);
    CHECK_LE(segment.begin + segment.length, call.x.rows);
  }
}

// The last W-1 inputs. Ascending order allows state_out to be state_in: row j takes row j + length.
void WriteStates(const ConvCall& call) {
  const int64_t rows = call.width - 1, cols = call.x.cols;
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, rows * cols));  // 256 KiB of copies
  ParallelForRanges(static_cast<int64_t>(call.segments.size()), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const ConvSegment& segment = call.segments[static_cast<size_t>(i)];
      if (segment.state_out == nullptr) continue;
      for (int64_t j = 0; j < rows; ++j) {
        const int64_t v = segment.length - rows + j;
        float* to = segment.state_out + j * cols;
        if (v < 0 && segment.state_in == nullptr) {
          std::fill_n(to, cols, 0.0f);
        } else {
          std::memmove(to, InputRow(call, segment, v, 0), static_cast<size_t>(cols) * sizeof(float));
        }
      }
    }
  });
}

// A run of no tokens hands its state on, and so its gradient back.
void PassThroughEmptyRuns(const ConvCall& call) {
  const int64_t size = (call.width - 1) * call.x.cols;
  for (const ConvSegment& segment : call.segments) {
    if (segment.length > 0 || segment.dstate_in == nullptr) continue;
    if (segment.dstate_out != nullptr) {
      std::memcpy(segment.dstate_in, segment.dstate_out, static_cast<size_t>(size) * sizeof(float));
    } else {
      std::fill_n(segment.dstate_in, size, 0.0f);
    }
  }
}

}  // namespace

void CausalConv1dSilu(ConstMatrixView x, const float* weight, const float* bias, int64_t width,
                      std::span<const ConvSegment> segments, MatrixView y) {
  const ConvCall call = {x, weight, bias, width, segments};
  CheckCall(call);
  CHECK_EQ(x.rows, y.rows);
  CHECK_EQ(x.cols, y.cols);
  CHECK(y.data != x.data || x.rows == 0);
  HWY_DYNAMIC_DISPATCH(ConvForwardSimd)(call, y);
  WriteStates(call);
}

void CausalConv1dSiluBackward(ConstMatrixView x, const float* weight, const float* bias, int64_t width,
                              std::span<const ConvSegment> segments, ConstMatrixView dy, MatrixView dx, float* dweight,
                              float* dbias) {
  const ConvCall call = {x, weight, bias, width, segments};
  CheckCall(call);
  for (const ConstMatrixView other : {dy, ConstMatrixView(dx)}) {
    CHECK_EQ(x.rows, other.rows);
    CHECK_EQ(x.cols, other.cols);
  }
  CHECK((dx.data != dy.data && dx.data != x.data) || x.rows == 0);
  for (const ConvSegment& s : segments) CHECK(s.dstate_in == nullptr || s.dstate_in != s.dstate_out);
  TilePartials partials(x.rows, (width + 1) * x.cols);
  HWY_DYNAMIC_DISPATCH(ConvBackwardSimd)(call, dy, dx, partials);
  PassThroughEmptyRuns(call);
  std::vector<float> sums(static_cast<size_t>((width + 1) * x.cols));  // [W + 1, C]
  partials.AddTo(sums.data());
  for (int64_t c = 0; c < x.cols; ++c) {
    for (int64_t k = 0; k < width; ++k) dweight[c * width + k] += sums[static_cast<size_t>(k * x.cols + c)];
    dbias[c] += sums[static_cast<size_t>(width * x.cols + c)];
  }
}

}  // namespace taipan
#endif  // HWY_ONCE
