#pragma once
// Shared by the forward and backward of attention: tiles of 64 keys that lie on a fixed grid of positions, so that a
// query's result does not depend on which other queries or pieces are computed with it.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/parallel.h"
#include "kernels/attention/attention.h"
#include "kernels/carver.h"
#include "kernels/element_type.h"

namespace taipan::attention {

constexpr int64_t kKeyTile = 64;
constexpr int64_t kLanes = 16;  // at most; of the vectors in use
constexpr int64_t kTrim = 32;   // products over a part of a tile's columns begin and end at multiples of it

// `unit` times what scores are multiplied with.
inline float ScoreScale(const AttentionShape& shape, float unit = 1.0f) {
  return shape.scale > 0 ? unit * shape.scale : unit / std::sqrt(static_cast<float>(shape.head_dim));
}

struct KeyRange {
  int64_t first, end;  // positions
};

inline KeyRange Positions(const AttentionSegment& s) {
  if (s.keys.empty()) return {0, 0};
  return {s.keys.front().position, s.keys.back().position + s.keys.back().count};
}

// Keys that some query of positions [lo, hi] may see, from the tile grid.
inline KeyRange Visible(const AttentionShape& shape, KeyRange keys, int64_t lo, int64_t hi) {
  int64_t first = keys.first;
  if (shape.window > 0) first = std::max(first, lo - shape.window + 1);
  return {first / kKeyTile * kKeyTile, std::min(keys.end, hi + 1)};
}

// Columns [begin, end) of a tile.
struct Columns {
  int64_t begin, end;
};
// Those that some position of [lo, hi] sees; begin >= end: none.
inline Columns SeenColumns(const AttentionShape& shape, KeyRange keys, int64_t tile, int64_t lo, int64_t hi) {
  int64_t first = std::max(keys.first, tile);
  if (shape.window > 0) first = std::max(first, lo - shape.window + 1);
  return {first - tile, std::min({keys.end, tile + kKeyTile, hi + 1}) - tile};
}

// What a product over one tile of keys for queries of positions [lo, hi] has to cover.
struct Trimmed {
  Columns columns;  // multiples of kTrim
  bool full;        // every query sees every column
  bool empty() const { return columns.begin >= columns.end; }
};
inline Trimmed Trim(const AttentionShape& shape, KeyRange keys, int64_t tile, int64_t lo, int64_t hi) {
  const Columns seen = SeenColumns(shape, keys, tile, lo, hi);
  if (seen.begin >= seen.end) return {{0, 0}, false};
  const Columns c = {seen.begin / kTrim * kTrim, (seen.end + kTrim - 1) / kTrim * kTrim};
  const Columns all = SeenColumns(shape, keys, tile, hi, lo);  // what the last and the first query both see
  return {c, all.begin <= c.begin && all.end >= c.end};
}

// Rows of a block: queries [begin, begin + count) times the heads that share key head kv_head.
struct Block {
  const AttentionSegment* segment;
  int64_t kv_head, begin, count;
};

struct Row {
  int64_t query, head;
};
inline Row RowOf(const AttentionShape& shape, const Block& b, int64_t row) {
  const int64_t group = shape.heads / shape.kv_heads;
  return {b.begin + row / group, b.kv_head * group + row % group};
}

// Rows of the left operands have a padded length: pairs of bf16 are read whole.
inline int64_t PaddedDim(const AttentionShape& shape) { return (shape.head_dim + 1) / 2 * 2; }

}  // namespace taipan::attention
