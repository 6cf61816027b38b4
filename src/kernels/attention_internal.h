#pragma once
// Shared by the forward and backward of attention: tiles of 64 keys that lie on a fixed grid of positions, so that a
// query's result does not depend on which other queries or pieces are computed with it.

#include <algorithm>
#include <cstring>

#include "kernels/attention.h"

namespace taipan::attention {

constexpr int64_t kKeyTile = 64;
constexpr int64_t kQueryRows = 32;  // rows of a query tile: queries times the heads that share a key head

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

// Calls f(span index, row within the span, column of the tile, count) for the runs of a tile that exist.
template <class F>
void ForTileRuns(const AttentionSegment& s, int64_t tile_begin, int64_t limit, F&& f) {
  const int64_t tile_end = std::min(tile_begin + kKeyTile, limit);
  for (size_t i = 0; i < s.keys.size(); ++i) {
    const KeySpan& span = s.keys[i];
    const int64_t begin = std::max(span.position, tile_begin), end = std::min(span.position + span.count, tile_end);
    if (begin < end) f(i, begin - span.position, begin - tile_begin, end - begin);
  }
}

// Columns [begin, end) of the tile that the query at `position` sees.
struct Columns {
  int64_t begin, end;
};
inline Columns SeenColumns(const AttentionShape& shape, KeyRange keys, int64_t tile_begin, int64_t position) {
  int64_t first = std::max(keys.first, tile_begin);
  if (shape.window > 0) first = std::max(first, position - shape.window + 1);
  const int64_t end = std::min({keys.end, tile_begin + kKeyTile, position + 1});
  return {first - tile_begin, std::max(end, first) - tile_begin};
}

// A query tile: queries [begin, begin + count) of a segment under one key head.
struct QueryTile {
  int64_t segment, kv_head, begin, count;
};

inline int64_t QueriesPerTile(const AttentionShape& shape) {
  return std::max<int64_t>(1, kQueryRows / (shape.heads / shape.kv_heads));
}

}  // namespace taipan::attention
