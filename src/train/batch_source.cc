#include "train/batch_source.h"

#include <algorithm>

namespace taipan {

void ClearBatch(Batch& batch) {
  batch.tokens.clear();
  batch.targets.clear();
  batch.weights.clear();
  batch.segments.clear();
}

void AppendWindow(Batch& batch, const int32_t* window, int64_t n, int64_t row) {
  Segment segment;
  segment.begin = batch.size();
  segment.length = n;
  segment.row = row;
  batch.segments.push_back(segment);
  batch.tokens.insert(batch.tokens.end(), window, window + n);
  batch.targets.insert(batch.targets.end(), window + 1, window + n + 1);
}

void CorpusSource::Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const {
  const int64_t n = loader_.context();
  const int64_t context = context_.first.empty() ? n : context_.At(step + 1);
  const int64_t batch_size = loader_.batch_size();
  const int64_t before = rows_.first.empty() ? step * batch_size : rows_.SumBefore(step + 1);
  std::vector<int32_t> window(static_cast<size_t>(n + 1));
  ClearBatch(batch);
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    const int64_t index = before + row;
    loader_.Read(index / batch_size, index % batch_size, window.data());
    for (int64_t begin = 0; begin < n; begin += context) {
      AppendWindow(batch, window.data() + begin, context, row);
      batch.segments.back().row_begin = begin;
    }
  }
}

}  // namespace taipan
