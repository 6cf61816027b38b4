#include "layers/state.h"

#include <algorithm>
#include <atomic>

#include "kernels/convert.h"

namespace taipan {

struct KvCache::Page {
  Page(Tensor keys, Tensor values, int64_t heads) : k(std::move(keys)), v(std::move(values)) {
    if (k.dtype() == DType::kI8) k_scales = v_scales = Tensor({kPageTokens, heads});
  }
  Tensor k, v;                // [kPageTokens, width]
  Tensor k_scales, v_scales;  // [kPageTokens, heads], of int8
};

// Pages side by side: large enough for huge pages, with which attention of a single query is a fifth faster (Zen 4).
struct KvCache::Block {
  explicit Block(int64_t bytes) : memory(Tensor::Unset({bytes}, DType::kU8)) {}
  Tensor memory;
  std::atomic<int64_t> used{0};  // bytes; copies of a cache share a block
};

namespace {

// Rows of one type, or f32 and bf16.
void CopyRows(ConstMatrixView from, MatrixView to) {
  if (from.dtype == DType::kI8) {
    CopyMatrix(from, to);
  } else {
    Convert(from, to);
  }
}

}  // namespace

KeyRows KeyRows::Rows(int64_t begin, int64_t count) const {
  const auto from = [&](const float* scales) { return scales == nullptr ? nullptr : scales + begin * heads; };
  return {k.Rows(begin, count), v.Rows(begin, count), from(k_scales), from(v_scales), heads};
}

KvCache::KvCache(int64_t width, int64_t window, int64_t heads) : width_(width), window_(window), heads_(heads) {
  CHECK_GT(width, 0);
  CHECK_EQ(width % heads, 0);
  CHECK_GE(window, 0);
}

std::shared_ptr<KvCache::Page> KvCache::NewPage() {
  const std::vector<int64_t> shape = {kPageTokens, width_};
  if (pages() < kLonePages) return std::make_shared<Page>(Tensor(shape, dtype_), Tensor(shape, dtype_), heads_);
  const int64_t half = kPageTokens * width_ * SizeOf(dtype_);
  const auto take = [&] { return block_ == nullptr ? -1 : block_->used.fetch_add(2 * half); };
  int64_t at = take();
  if (at < 0 || at + 2 * half > block_->memory.bytes()) {
    block_ = std::make_shared<Block>(std::max(kBlockBytes, 8 * half));
    at = take();
  }
  const auto part = [&](int64_t offset) { return Tensor::PartOf(block_->memory, offset, shape, dtype_); };
  return std::make_shared<Page>(part(at), part(at + half), heads_);
}

KvCache::Page& KvCache::Writable(size_t index) {
  if (index == pages_.size()) {
    if (spare_ != nullptr && spare_.use_count() == 1) {
      pages_.push_back(std::move(spare_));
    } else {
      pages_.push_back(NewPage());
    }
    spare_.reset();
  }
  CHECK_LT(index, pages_.size());
  if (pages_[index].use_count() > 1) pages_[index] = std::make_shared<Page>(*pages_[index]);
  return *pages_[index];
}

void KvCache::ConvertTo(DType dtype) {
  if (dtype == dtype_) return;
  CHECK(pages_.empty() || (dtype != DType::kI8 && dtype_ != DType::kI8));
  dtype_ = dtype;
  spare_.reset();
  for (auto& page : pages_) {
    const std::vector<int64_t> shape = {kPageTokens, width_};
    auto converted = std::make_shared<Page>(Tensor(shape, dtype), Tensor(shape, dtype), heads_);
    Convert(page->k.Matrix(), converted->k.Matrix());
    Convert(page->v.Matrix(), converted->v.Matrix());
    page = std::move(converted);
  }
}

void KvCache::Append(const KeyRows& rows) {
  const auto& [k, v, k_scales, v_scales, heads] = rows;
  CHECK_EQ(k.cols, width_);
  CHECK_EQ(v.cols, width_);
  CHECK_EQ(k.rows, v.rows);
  CHECK(k.dtype == v.dtype);
  CHECK(k.dtype != DType::kI8 || heads == heads_);
  int64_t row = 0;
  if (window_ > 0 && k.rows > window_) {
    row = k.rows - window_;
    RestartAt(end_ + row);
  }
  ConvertTo(k.dtype);
  while (row < k.rows) {
    const int64_t in_page = end_ % kPageTokens, run = std::min(kPageTokens - in_page, k.rows - row);
    Page& page = Writable(static_cast<size_t>((end_ - FirstPageStart()) / kPageTokens));
    CopyRows(k.Rows(row, run), page.k.Matrix().Rows(in_page, run));
    CopyRows(v.Rows(row, run), page.v.Matrix().Rows(in_page, run));
    if (dtype_ == DType::kI8) {
      std::copy_n(k_scales + row * heads_, run * heads_, page.k_scales.F32() + in_page * heads_);
      std::copy_n(v_scales + row * heads_, run * heads_, page.v_scales.F32() + in_page * heads_);
    }
    end_ += run;
    row += run;
  }
  if (window_ == 0 || end_ - window_ <= first_) return;
  const int64_t gone = (end_ - window_) / kPageTokens - first_ / kPageTokens;
  first_ = end_ - window_;
  if (gone > 0) {
    if (pages_[0].use_count() == 1) spare_ = std::move(pages_[0]);
    pages_.erase(pages_.begin(), pages_.begin() + std::min<int64_t>(gone, pages()));
  }
}

int64_t KvCache::Spans(int64_t from, KeySpan* out) const {
  int64_t n = 0, page_begin = FirstPageStart();
  for (const auto& page : pages_) {
    const int64_t begin = std::max({page_begin, first_, from}), end = std::min(page_begin + kPageTokens, end_);
    if (begin < end) {
      const ConstMatrixView k = page->k.Matrix().Rows(begin - page_begin, end - begin);
      const ConstMatrixView v = page->v.Matrix().Rows(begin - page_begin, end - begin);
      out[n] = {k.data, v.data, dtype_, width_, begin, end - begin};
      if (dtype_ == DType::kI8) {
        out[n].k_scales = page->k_scales.F32() + (begin - page_begin) * heads_;
        out[n].v_scales = page->v_scales.F32() + (begin - page_begin) * heads_;
      }
      ++n;
    }
    page_begin += kPageTokens;
  }
  return n;
}

void KvCache::Truncate(int64_t end) {
  CHECK_GE(end, 0);
  if (end >= end_) return;
  const bool dropped = window_ > 0 && first_ > std::max<int64_t>(0, end - window_ + 1);
  if (dropped || end < first_) {
    throw UserError({.where = "sequence state",
                     .problem = fmt::format("cannot go back to position {}", end),
                     .found = fmt::format("keys from position {} on", first_),
                     .hint = "keep a copy of the state instead"});
  }
  end_ = end;
  const int64_t used = end_ > first_ ? (end_ - 1 - FirstPageStart()) / kPageTokens + 1 : 0;
  pages_.resize(static_cast<size_t>(std::min(used, pages())));
}

void KvCache::RestartAt(int64_t position) {
  CHECK_GE(position, 0);
  pages_.clear();
  first_ = end_ = position;
}

void KvCache::Restore(int64_t end, const KeyRows& rows) {
  RestartAt(end - rows.k.rows);
  if (rows.k.rows > 0) Append(rows);
}

int64_t KvCache::bytes() const {
  const int64_t scales = dtype_ == DType::kI8 ? heads_ * SizeOf(DType::kF32) : 0;
  return pages() * kPageTokens * 2 * (width_ * SizeOf(dtype_) + scales);
}

Tensor& LayerState::Fixed(const StateSpec& spec) {
  CHECK(!spec.per_token && (spec.name == "ssm_state" || spec.name == "conv_state"));
  return spec.name == "ssm_state" ? ssm : conv;
}

Tensor& LayerStateGradient::Of(const StateSpec& spec) {
  if (spec.per_token) return spec.name == "k" ? dk : dv;
  return spec.name == "ssm_state" ? ssm : conv;
}

void LayerState::Add(const StateSpec& spec) {
  if (!spec.per_token) {
    Fixed(spec) = Tensor(spec.shape);
  } else if (kv.width() == 0) {  // keys come first, values are as wide
    kv = KvCache(spec.shape[0] * spec.shape[1], spec.window, spec.shape[0]);
  }
}

}  // namespace taipan
