#include "layers/state.h"

#include <algorithm>

#include "kernels/convert.h"

namespace taipan {

struct KvCache::Page {
  Page(int64_t width, DType dtype) : k({kPageTokens, width}, dtype), v({kPageTokens, width}, dtype) {}
  Tensor k, v;  // [kPageTokens, width]
};

KvCache::KvCache(int64_t width, int64_t window) : width_(width), window_(window) {
  CHECK_GT(width, 0);
  CHECK_GE(window, 0);
}

KvCache::Page& KvCache::Writable(size_t index) {
  if (index == pages_.size()) {
    if (spare_ != nullptr && spare_.use_count() == 1) {
      pages_.push_back(std::move(spare_));
    } else {
      pages_.push_back(std::make_shared<Page>(width_, dtype_));
    }
    spare_.reset();
  }
  CHECK_LT(index, pages_.size());
  if (pages_[index].use_count() > 1) pages_[index] = std::make_shared<Page>(*pages_[index]);
  return *pages_[index];
}

void KvCache::ConvertTo(DType dtype) {
  if (dtype == dtype_) return;
  dtype_ = dtype;
  spare_.reset();
  for (auto& page : pages_) {
    auto converted = std::make_shared<Page>(width_, dtype);
    Convert(page->k.Matrix(), converted->k.Matrix());
    Convert(page->v.Matrix(), converted->v.Matrix());
    page = std::move(converted);
  }
}

void KvCache::Append(ConstMatrixView k, ConstMatrixView v) {
  CHECK_EQ(k.cols, width_);
  CHECK_EQ(v.cols, width_);
  CHECK_EQ(k.rows, v.rows);
  CHECK(k.dtype == v.dtype);
  int64_t row = 0;
  if (window_ > 0 && k.rows > window_) {
    row = k.rows - window_;
    RestartAt(end_ + row);
  }
  ConvertTo(k.dtype);
  while (row < k.rows) {
    const int64_t in_page = end_ % kPageTokens, run = std::min(kPageTokens - in_page, k.rows - row);
    Page& page = Writable(static_cast<size_t>((end_ - FirstPageStart()) / kPageTokens));
    Convert(k.Rows(row, run), page.k.Matrix().Rows(in_page, run));
    Convert(v.Rows(row, run), page.v.Matrix().Rows(in_page, run));
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
      out[n++] = {k.data, v.data, dtype_, width_, begin, end - begin};
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

int64_t KvCache::bytes() const { return pages() * kPageTokens * width_ * 2 * SizeOf(dtype_); }

Tensor& LayerState::Fixed(const StateSpec& spec) {
  CHECK(!spec.per_token && (spec.name == "ssm_state" || spec.name == "conv_state"));
  return spec.name == "ssm_state" ? ssm : conv;
}

void LayerState::Add(const StateSpec& spec) {
  if (!spec.per_token) {
    Fixed(spec) = Tensor(spec.shape);
  } else if (kv.width() == 0) {  // keys come first, values are as wide
    kv = KvCache(spec.shape[0] * spec.shape[1], spec.window);
  }
}

}  // namespace taipan
