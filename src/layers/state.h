#pragma once
// What one layer remembers of one sequence: SSM and convolution state of a Mamba-2 block, or the keys and values of an
// attention block in reference-counted pages. A copy shares pages; a page is cloned when somebody writes to a shared
// one.

#include <memory>
#include <vector>

#include "kernels/attention/attention.h"
#include "layers/spec.h"
#include "tensor/tensor.h"

namespace taipan {

// Rows of keys and values, f32 or bf16, or int8 with the scales [rows, heads] of each.
struct KeyRows {
  ConstMatrixView k, v;  // [rows, width]
  const float *k_scales = nullptr, *v_scales = nullptr;
  int64_t heads = 1;

  KeyRows Rows(int64_t begin, int64_t count) const;
};

// Keys and values of the positions [first(), end()). With a window only the last `window` positions stay.
class KvCache {
 public:
  KvCache() = default;
  // width = kv_heads * head_dim; window 0: everything is kept
  KvCache(int64_t width, int64_t window, int64_t heads = 1);

  int64_t width() const { return width_; }
  int64_t heads() const { return heads_; }
  int64_t window() const { return window_; }
  int64_t first() const { return first_; }
  int64_t end() const { return end_; }
  int64_t count() const { return end_ - first_; }

  // Rows at positions end() ...; what leaves the window is forgotten. The cache is of the type that was appended last:
  // what it holds is converted where that changes, which only an empty one can to or from int8.
  void Append(const KeyRows& rows);
  void Append(ConstMatrixView k, ConstMatrixView v) { Append(KeyRows{.k = k, .v = v}); }
  // Positions >= from as spans, one a page, ascending; returns their number, at most pages().
  int64_t Spans(int64_t from, KeySpan* out) const;
  int64_t pages() const { return static_cast<int64_t>(pages_.size()); }
  // Forgets the positions >= end (rewinding a sequence). Throws UserError where a window has already dropped what
  // position `end` would need.
  void Truncate(int64_t end);
  // An empty cache that starts at `position`.
  void RestartAt(int64_t position);
  // These rows alone, the last ones before `end`: a cache that was copied out (kv_rows.h).
  void Restore(int64_t end, const KeyRows& rows);

  DType dtype() const { return dtype_; }
  int64_t bytes() const;

 private:
  struct Page;
  struct Block;
  int64_t FirstPageStart() const { return first_ / kPageTokens * kPageTokens; }
  std::shared_ptr<Page> NewPage();
  Page& Writable(size_t index);
  void ConvertTo(DType dtype);

  static constexpr int64_t kPageTokens = 128;  // 128 tokens of 1024 floats: 1 MiB of keys and values
  static constexpr int64_t kLonePages = 8;     // the first ones, each by itself: short sequences take what they need
  static constexpr int64_t kBlockBytes = int64_t{4} << 20;
  int64_t width_ = 0, window_ = 0, heads_ = 1, first_ = 0, end_ = 0;
  DType dtype_ = DType::kF32;
  std::shared_ptr<Block> block_;              // where the next page comes from
  std::vector<std::shared_ptr<Page>> pages_;  // page i holds positions [FirstPageStart() + i * kPageTokens, ...)
  std::shared_ptr<Page> spare_;               // the last page that fell out of the window, used again
};

struct LayerState {
  Tensor ssm;   // [H, P, N] f32: Mamba-2 only
  Tensor conv;  // [W-1, d_inner + 2GN] f32, oldest first: Mamba-2 only
  KvCache kv;   // attention only

  // Takes what a branch declares: that of an empty sequence.
  void Add(const StateSpec& spec);
  // The tensor of a spec that is not per token.
  Tensor& Fixed(const StateSpec& spec);
  const Tensor& Fixed(const StateSpec& spec) const { return const_cast<LayerState*>(this)->Fixed(spec); }

  int64_t bytes() const { return ssm.bytes() + conv.bytes() + kv.bytes(); }
};

// dL/d LayerState: ssm and conv of the same shapes; dk, dv [n, width] for the last n positions before the boundary.
struct LayerStateGradient {
  Tensor ssm, conv;
  Tensor dk, dv;

  Tensor& Of(const StateSpec& spec);
};

}  // namespace taipan
