#pragma once
// Weight gradients are sums over rows. Each tile of kRows rows adds its own into a partial of its own, whichever thread
// runs it; the partials are then added in tile order. So the bits do not depend on the number of threads.

#include <algorithm>
#include <cstdint>
#include <memory>

#include "base/parallel.h"

namespace taipan {

class TilePartials {
 public:
  static constexpr int64_t kRows = 64;  // partials are 1/64 of an activation's memory

  // `size` floats for each tile of `rows` rows. Not cleared: the task of a tile does that, in its own cache.
  TilePartials(int64_t rows, int64_t size)
      : size_(size),
        tiles_((rows + kRows - 1) / kRows),
        sums_(std::make_unique_for_overwrite<float[]>(static_cast<size_t>(tiles_ * size))) {}

  float* Tile(int64_t first_row) { return sums_.get() + first_row / kRows * size_; }
  float* ClearedTile(int64_t first_row) {
    std::fill_n(Tile(first_row), size_, 0.0f);
    return Tile(first_row);
  }

  // out[i] += the sum of the tiles' i-th values.
  void AddTo(float* out) const {
    if (tiles_ * size_ <= kSerial) {
      AddRange(0, size_, out);
    } else {
      ParallelForRanges(size_, 4 * kBlock, [&](int64_t begin, int64_t end) { AddRange(begin, end, out); });
    }
  }

 private:
  static constexpr int64_t kBlock = 512;     // sums of a pass: 2 KiB, in L1
  static constexpr int64_t kSerial = 65536;  // floats that one thread adds in less time than it takes to wake another

  void AddRange(int64_t first, int64_t last, float* out) const {
    for (int64_t begin = first; begin < last; begin += kBlock) {
      const int64_t n = std::min(kBlock, last - begin);
      float sum[kBlock] = {};
      for (int64_t tile = 0; tile < tiles_; ++tile) {
        const float* from = sums_.get() + tile * size_ + begin;
        for (int64_t i = 0; i < n; ++i) sum[i] += from[i];
      }
      for (int64_t i = 0; i < n; ++i) out[begin + i] += sum[i];
    }
  }

  int64_t size_, tiles_;
  std::unique_ptr<float[]> sums_;
};

// Rows a task of an elementwise loop: enough for some ten microseconds, so that one decoded token starts no threads.
inline int64_t RowGrain(int64_t cols) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, cols)); }

}  // namespace taipan
