#include "kernels/causal_conv1d.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "base/parallel.h"
#include "kernels/convert.h"
#include "kernels/element_type.h"
#include "kernels/gemm/tile_partials.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/causal_conv1d.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

// Work is cut into tiles of kRowTile rows of x by a block of channels, whatever the segments are; a tile visits the
// runs of segments that it meets. Rows fix the order of all sums; channels do not meet, so their blocks are as wide as
// the number of threads allows, which saves looking up every page more than once. Within a tile one vector of channels
// at a time goes down the rows: its window of inputs, its weights and the sums of their gradients stay in registers.

#ifndef TAIPAN_KERNELS_CAUSAL_CONV1D_TARGET_INDEPENDENT
#define TAIPAN_KERNELS_CAUSAL_CONV1D_TARGET_INDEPENDENT
namespace taipan {
namespace {

constexpr int64_t kMaxWidth = 8;
constexpr int64_t kAhead = 12;  // rows that are fetched ahead: a page apart, where no hardware guesses them
constexpr int64_t kRowTile = TilePartials::kRows;

// The rows [begin, end) of a segment, counted from its start, that lie in a tile.
struct Run {
  const ConvSegment* segment;
  int64_t begin, end;

  // Then the tile writes its state too: as decoding's, on the core that has the inputs.
  bool IsWholeSegment() const { return begin == 0 && end == segment->length; }
};
inline bool LiesInOneTile(const ConvSegment& s) {
  return s.length > 0 && s.begin / kRowTile == (s.begin + s.length - 1) / kRowTile;
}

struct Tile {
  int64_t row, channel, channels;  // first row; first channel and how many
  std::span<const Run> runs;
};

// Runs are not empty and do not overlap, so a tile meets at most one a row.
inline std::span<const Run> RunsInRows(std::span<const ConvSegment> segments, int64_t first, int64_t last,
                                       Run (&runs)[kRowTile]) {
  size_t n = 0;
  for (const ConvSegment& segment : segments) {
    const int64_t begin = std::max(segment.begin, first), end = std::min(segment.begin + segment.length, last);
    if (begin >= end) continue;
    CHECK_LT(n, static_cast<size_t>(kRowTile));
    runs[n++] = {&segment, begin - segment.begin, end - segment.begin};
  }
  return {runs, n};
}

// Channels of a tile: all of them where the rows alone give every thread a few tiles.
inline int64_t TileChannels(int64_t row_tiles, int64_t cols) {
  constexpr int64_t kLine = 64;  // of bf16 values two cache lines, so that threads do not share one
  const int64_t blocks = (4 * NumThreads() + row_tiles - 1) / row_tiles;
  return std::max<int64_t>(256, (cols / blocks + kLine - 1) / kLine * kLine);
}

// f(tile) for every tile, in parallel where that pays.
template <class F>
void ForTiles(const ConvInputs& in, F&& f) {
  const int64_t rows = in.x.rows, cols = in.x.cols, row_tiles = (rows + kRowTile - 1) / kRowTile;
  if (row_tiles == 0 || cols == 0) return;
  const int64_t width = TileChannels(row_tiles, cols), tiles = (cols + width - 1) / width * row_tiles;
  const auto run = [&](int64_t tile) {
    const int64_t row = tile % row_tiles * kRowTile, channel = tile / row_tiles * width;
    Run runs[kRowTile];
    f(Tile{row, channel, std::min(width, cols - channel),
           RunsInRows(in.segments, row, std::min(row + kRowTile, rows), runs)});
  };
  constexpr int64_t kSerial = 1024;  // elements that one thread does in less time than it takes to call another
  if (rows * cols <= kSerial) {
    for (int64_t tile = 0; tile < tiles; ++tile) run(tile);
  } else {
    ParallelForRuns(tiles, run);
  }
}

}  // namespace
}  // namespace taipan
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

// f(k) for every tap k. kWidth 0: a width that is known at run time only; else the indices are constants, so that
// arrays of vectors become registers.
template <int kWidth, class F>
HWY_INLINE void ForTaps(int64_t width, const F& f) {
  if constexpr (kWidth == 4) {
    f(0), f(1), f(2), f(3);
  } else {
    for (int64_t k = 0; k < width; ++k) f(k);
  }
}
#define TAIPAN_TAP HWY_ATTR __attribute__((always_inline))

// The weights of one vector of channels, by tap.
template <int kWidth>
struct Taps {
  int64_t width;
  FloatVec weight[kMaxWidth], bias;

  template <class P>
  HWY_INLINE Taps(const ConvInputs& in, int64_t channel, P part) : width(kWidth > 0 ? kWidth : in.width) {
    const FloatTag d;
    bias = Load(d, in.bias + channel, part);
    const float* from = in.weight + channel * width;
#if HWY_TARGET != HWY_SCALAR
    if constexpr (kWidth == 4 && std::is_same_v<P, Whole>) {
      hn::LoadInterleaved4(d, from, weight[0], weight[1], weight[2], weight[3]);
      return;
    }
#endif
    HWY_ALIGN float lanes[kMaxWidth][hn::MaxLanes(d)] = {};
    for (int64_t c = 0; c < LanesOf(part); ++c) {
      for (int64_t k = 0; k < width; ++k) lanes[k][c] = from[c * width + k];
    }
    ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP { weight[k] = hn::Load(d, lanes[k]); });
  }

  static HWY_INLINE int64_t LanesOf(Whole) { return static_cast<int64_t>(hn::Lanes(FloatTag())); }
  static HWY_INLINE int64_t LanesOf(Part part) { return part.n; }
};

// The window of inputs of one vector of channels as it goes down the rows of a run.
template <int kWidth, class T, class P>
struct Strip {
  const Taps<kWidth>& taps;
  const T* x;  // row 0 of the segment, from the first of the channels on
  int64_t stride, length;
  const float* state;  // the same of state_in, or null
  int64_t state_stride, width;
  P part;
  FloatVec window[kMaxWidth];  // the last `width` inputs, oldest first

  HWY_INLINE Strip(const ConvInputs& in, const Taps<kWidth>& t, const ConvSegment& segment, int64_t channel, P p)
      : taps(t),
        x(in.x.As<T>(segment.begin) + channel),
        stride(in.x.stride),
        length(segment.length),
        state(segment.state_in != nullptr ? segment.state_in + channel : nullptr),
        state_stride(in.x.cols),
        width(kWidth > 0 ? kWidth : in.width),
        part(p) {}

  // Row v of the run's input; v in [-(W-1), 0) are the state's rows.
  HWY_INLINE FloatVec Input(int64_t v) const {
    const FloatTag d;
    if (v >= 0) return Load(d, x + v * stride, part);
    return state == nullptr ? hn::Zero(d) : Load(d, state + (v + width - 1) * state_stride, part);
  }

  // Before the first Push(t): the inputs that precede row t.
  HWY_INLINE void Fill(int64_t t) {
    window[0] = hn::Zero(FloatTag());
    ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP {
      if (k > 0) window[k] = Input(t - width + k);
    });
  }

  // Takes in row t; returns its pre-activation.
  HWY_INLINE FloatVec Push(int64_t t) {
    if (t + kAhead < length) hwy::Prefetch(x + (t + kAhead) * stride);
    const FloatVec next = Load(FloatTag(), x + t * stride, part);
    ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP { window[k] = k + 1 < width ? window[k + 1] : next; });
    FloatVec sum = taps.bias;
    ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP { sum = hn::MulAdd(taps.weight[k], window[k], sum); });
    return sum;
  }

  // After the segment's last Push: the inputs that the next one starts from. to: state_out, from the channels on.
  HWY_INLINE void StoreState(float* to) const {
    ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP {
      if (k > 0) Store(window[k], FloatTag(), to + (k - 1) * state_stride, part);
    });
  }
};

template <int kWidth, class T, class P>
HWY_INLINE void ForwardStrip(const ConvInputs& in, const Taps<kWidth>& taps, const Run& run, int64_t channel, P part,
                             MatrixView y) {
  const FloatTag d;
  Strip<kWidth, T, P> strip(in, taps, *run.segment, channel, part);
  strip.Fill(run.begin);
  T* out = y.As<T>(run.segment->begin + run.begin) + channel;
  for (int64_t t = run.begin; t < run.end; ++t, out += y.stride) {
    if (t + kAhead < run.segment->length) hwy::Prefetch(out + kAhead * y.stride);
    Store(Silu(d, strip.Push(t)), d, out, part);
  }
  if (run.IsWholeSegment() && run.segment->state_out != nullptr) strip.StoreState(run.segment->state_out + channel);
}

template <int kWidth, class T>
void ForwardTile(const ConvInputs& in, const Tile& tile, MatrixView y) {
  for (const Run& run : tile.runs) {  // one after the other: few rows at once, which the hardware reads ahead
    ForVectors(FloatTag(), tile.channels, [&](int64_t i, auto part) HWY_ATTR {
      const Taps<kWidth> taps(in, tile.channel + i, part);
      ForwardStrip<kWidth, T>(in, taps, run, tile.channel + i, part, y);
    });
  }
}

struct TileGradients {
  ConstMatrixView dy;
  MatrixView dx;
  float* sums;  // of a tile, [W + 1, C]: dL/d weight by tap, dL/d bias
};

// Rows [begin, end) of one run. They need the gradients of up to W-1 rows more, which those rows' tile computes again.
//   dx_v = what the next run's window gives (dstate_out) + sum_k w_k dp_{v+W-1-k}, latest first: a run cut in two adds
// the same terms in the same order. dp = dy silu'(p) is dL/d pre-activation, 0 outside of the run.
template <int kWidth, class T, class P>
HWY_INLINE void BackwardStrip(const ConvInputs& in, const Taps<kWidth>& taps, const Run& run, int64_t channel, P part,
                              const TileGradients& g) {
  const FloatTag d;
  const ConvSegment& segment = *run.segment;
  const int64_t length = segment.length, cols = in.x.cols, end = run.end;
  Strip<kWidth, T, P> strip(in, taps, segment, channel, part);
  const int64_t width = strip.width, reach = width - 1;
  FloatVec sums[kMaxWidth], recent[kMaxWidth];  // recent[k]: dp of row t - k
  FloatVec bias_sum = hn::Zero(d);
  ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP { sums[k] = recent[k] = hn::Zero(d); });
  strip.Fill(run.begin);
  const T* dy = g.dy.As<T>(segment.begin) + channel;
  T* dx = g.dx.As<T>(segment.begin) + channel;
  const float* after = segment.dstate_out != nullptr ? segment.dstate_out + channel : nullptr;
  float* before = segment.dstate_in != nullptr ? segment.dstate_in + channel : nullptr;
  const int64_t first = run.begin == 0 && before != nullptr ? -reach : run.begin;
  for (int64_t t = run.begin; t < end + reach; ++t) {
    FloatVec dp = hn::Zero(d);
    if (t < length) {
      const FloatVec p = strip.Push(t);
      hwy::Prefetch(dy + (t + kAhead) * g.dy.stride);
      hwy::Prefetch(dx + (t + kAhead) * g.dx.stride);
      dp = hn::Mul(Load(d, dy + t * g.dy.stride, part), SiluDerivative(p, Sigmoid(d, p)));
    }
    if (t < end) {
      ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP { sums[k] = hn::MulAdd(dp, strip.window[k], sums[k]); });
      bias_sum = hn::Add(bias_sum, dp);
    }
    ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP { recent[reach - k] = k < reach ? recent[reach - k - 1] : dp; });
    const int64_t v = t - reach;
    if (v < first) continue;
    const int64_t kept = v - (length - reach);  // row of state_out that this input is, if any
    FloatVec sum = kept >= 0 && after != nullptr ? Load(d, after + kept * cols, part) : hn::Zero(d);
    ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP { sum = hn::MulAdd(taps.weight[k], recent[k], sum); });
    if (v >= 0) {
      Store(sum, d, dx + v * g.dx.stride, part);
    } else {
      Store(sum, d, before + (v + reach) * cols, part);
    }
  }
  float* out = g.sums + channel;
  ForTaps<kWidth>(width, [&](int64_t k) TAIPAN_TAP {
    Store(hn::Add(Load(d, out + k * cols, part), sums[k]), d, out + k * cols, part);
  });
  out += width * cols;
  Store(hn::Add(Load(d, out, part), bias_sum), d, out, part);
}

template <int kWidth, class T>
void BackwardTile(const ConvInputs& in, const Tile& tile, const TileGradients& g) {
  for (int64_t k = 0; k <= in.width; ++k) std::fill_n(g.sums + k * in.x.cols + tile.channel, tile.channels, 0.0f);
  ForVectors(FloatTag(), tile.channels, [&](int64_t i, auto part) HWY_ATTR {
    const Taps<kWidth> taps(in, tile.channel + i, part);
    for (const Run& run : tile.runs) BackwardStrip<kWidth, T>(in, taps, run, tile.channel + i, part, g);
  });
}

void ConvForwardSimd(const ConvInputs& in, MatrixView y) {
  WithElementType(in.x.dtype, [&](auto t) {
    const auto forward = in.width == 4 ? ForwardTile<4, decltype(t)> : ForwardTile<0, decltype(t)>;
    ForTiles(in, [&](const Tile& tile) { forward(in, tile, y); });
  });
}

void ConvBackwardSimd(const ConvInputs& in, ConstMatrixView dy, MatrixView dx, TilePartials& partials) {
  WithElementType(in.x.dtype, [&](auto t) {
    const auto backward = in.width == 4 ? BackwardTile<4, decltype(t)> : BackwardTile<0, decltype(t)>;
    ForTiles(in, [&](const Tile& tile) { backward(in, tile, {dy, dx, partials.Tile(tile.row)}); });
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

void CheckInputs(const ConvInputs& in) {
  CHECK(in.width >= 2 && in.width <= kMaxWidth);
  for (const ConvSegment& segment : in.segments) {
    CHECK(segment.begin >= 0 && segment.length >= 0);
    CHECK_LE(segment.begin + segment.length, in.x.rows);
  }
}

// The last W-1 inputs of one run. Ascending order allows state_out to be state_in: row j takes row j + length.
void WriteState(const ConvInputs& in, const ConvSegment& segment) {
  const int64_t rows = in.width - 1, cols = in.x.cols;
  for (int64_t j = 0; j < rows; ++j) {
    const int64_t v = segment.length - rows + j;
    float* to = segment.state_out + j * cols;
    if (v >= 0) {
      Convert(in.x.Rows(segment.begin + v, 1), MatrixView(to, 1, cols));
    } else if (segment.state_in != nullptr) {
      std::memmove(to, segment.state_in + (v + rows) * cols, static_cast<size_t>(cols) * sizeof(float));
    } else {
      std::fill_n(to, cols, 0.0f);
    }
  }
}

void WriteStates(const ConvInputs& in) {
  const int64_t size = (in.width - 1) * in.x.cols;
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, size));  // 256 KiB of copies
  ParallelForRanges(static_cast<int64_t>(in.segments.size()), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const ConvSegment& segment = in.segments[static_cast<size_t>(i)];
      if (segment.state_out != nullptr && !LiesInOneTile(segment)) WriteState(in, segment);
    }
  });
}

// A run of no tokens hands its state on, and so its gradient back.
void PassThroughEmptyRuns(const ConvInputs& in) {
  const int64_t size = (in.width - 1) * in.x.cols;
  for (const ConvSegment& segment : in.segments) {
    if (segment.length > 0 || segment.dstate_in == nullptr) continue;
    if (segment.dstate_out != nullptr) {
      std::memcpy(segment.dstate_in, segment.dstate_out, static_cast<size_t>(size) * sizeof(float));
    } else {
      std::fill_n(segment.dstate_in, size, 0.0f);
    }
  }
}

}  // namespace

void CausalConv1dSilu(const ConvInputs& in, MatrixView y) {
  CheckInputs(in);
  CHECK_EQ(in.x.rows, y.rows);
  CHECK_EQ(in.x.cols, y.cols);
  CHECK(y.data != in.x.data || y.rows == 0);
  HWY_DYNAMIC_DISPATCH(ConvForwardSimd)(in, y);
  WriteStates(in);
}

void CausalConv1dSiluBackward(const ConvInputs& in, const ConvGradients& out) {
  const int64_t rows = in.x.rows, cols = in.x.cols, width = in.width;
  CheckInputs(in);
  for (const ConstMatrixView other : {out.dy, ConstMatrixView(out.dx)}) {
    CHECK_EQ(rows, other.rows);
    CHECK_EQ(cols, other.cols);
  }
  CHECK((out.dx.data != out.dy.data && out.dx.data != in.x.data) || rows == 0);
  for (const ConvSegment& s : in.segments) CHECK(s.dstate_in == nullptr || s.dstate_in != s.dstate_out);
  TilePartials partials(rows, (width + 1) * cols);
  HWY_DYNAMIC_DISPATCH(ConvBackwardSimd)(in, out.dy, out.dx, partials);
  PassThroughEmptyRuns(in);
  std::vector<float> sums(static_cast<size_t>((width + 1) * cols));  // [W + 1, C]
  partials.AddTo(sums.data());
  for (int64_t c = 0; c < cols; ++c) {
    for (int64_t k = 0; k < width; ++k) out.dweight[c * width + k] += sums[static_cast<size_t>(k * cols + c)];
    out.dbias[c] += sums[static_cast<size_t>(width * cols + c)];
  }
}

}  // namespace taipan
#endif  // HWY_ONCE
