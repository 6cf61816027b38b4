// How the work of the chunked SSD is cut.

#include <algorithm>

#include "kernels/ssd/ssd_internal.h"

namespace taipan {
namespace ssd {

HeadBlocks BlocksOf(const SsdShape& shape) {
  // Columns that keep state and rows of a chunk in a second-level cache of 512 KiB, while at least four blocks a group
  // give the threads something to share.
  constexpr int64_t kWidth = 256, kBlocks = 4;
  const int64_t heads = shape.heads / shape.groups;
  int64_t best = 1;
  for (int64_t b = 2; b <= std::min(heads, kMaxBlockHeads); ++b) {
    if (heads % b == 0 && b * shape.head_dim <= kWidth && heads / b >= kBlocks) best = b;
  }
  return {best, best * shape.head_dim, heads / best, heads / best * shape.groups};
}

ChunkList ListChunks(const SsdShape& shape, std::span<const SsdSegment> segments, Arena& arena) {
  ChunkList list;
  list.chunks = arena.Array<Chunk>(SsdChunks(shape, segments));
  list.first = arena.Array<int64_t>(static_cast<int64_t>(segments.size()) + 1);
  for (size_t s = 0; s < segments.size(); ++s) {
    const SsdSegment& seg = segments[s];
    list.first[s] = list.count;
    for (int64_t at = 0; at < seg.length;) {
      const int64_t to_grid = shape.chunk - (seg.position + at) % shape.chunk;
      const int64_t length = std::min(to_grid, seg.length - at);
      list.chunks[list.count] = {static_cast<int64_t>(s),  seg.begin + at, length, list.count, at == 0,
                                 at + length == seg.length};
      ++list.count;
      at += length;
    }
  }
  list.first[segments.size()] = list.count;
  return list;
}

}  // namespace ssd

int64_t SsdChunks(const SsdShape& shape, std::span<const SsdSegment> segments) {
  int64_t count = 0;
  for (const SsdSegment& s : segments) {
    if (s.length == 0) continue;
    count += (s.position + s.length - 1) / shape.chunk - s.position / shape.chunk + 1;
  }
  return count;
}

int64_t SsdEnteringBytes(const SsdShape& shape, std::span<const SsdSegment> segments, DType dtype) {
  return SsdChunks(shape, segments) * shape.state_size() * SizeOf(dtype);
}

}  // namespace taipan
