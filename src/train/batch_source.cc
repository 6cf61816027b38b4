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

void AppendPiece(Batch& batch, const Corpus& corpus, const Piece& piece, int64_t row) {
  std::vector<int32_t> window(static_cast<size_t>(piece.inputs + 1));
  corpus.Read(piece.begin, piece.inputs + 1, window.data());
  int64_t row_begin = 0;
  if (!batch.segments.empty() && batch.segments.back().row == row) {
    row_begin = batch.segments.back().row_begin + batch.segments.back().length;
  }
  AppendWindow(batch, window.data(), piece.inputs, row);
  batch.segments.back().row_begin = row_begin;
  if (!corpus.weighted()) return;
  const size_t first = batch.weights.size();
  batch.weights.resize(batch.tokens.size());
  corpus.ReadWeights(piece.begin + 1, piece.inputs, &batch.weights[first]);
  for (size_t i = first; i < batch.weights.size(); ++i) {
    if (batch.weights[i] == 0) batch.targets[i] = -1;
  }
}

void PackedSource::Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const {
  ClearBatch(batch);
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    for (const Piece& piece : rows_.Row(step * batch_size_ + row)) AppendPiece(batch, corpus_, piece, row);
  }
}

void MixedSource::Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const {
  ClearBatch(batch);
  Batch one;
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    const MixPick pick = mix_.At(step * batch_size_ + row);
    sources_[static_cast<size_t>(pick.source)]->Fill(pick.index, 0, 1, one);
    for (Segment segment : one.segments) {
      segment.begin += batch.size();
      segment.row = row;
      batch.segments.push_back(segment);
    }
    if (!one.weights.empty() || !batch.weights.empty()) {
      batch.weights.resize(batch.tokens.size(), 1.0f);
      batch.weights.insert(batch.weights.end(), one.weights.begin(), one.weights.end());
      batch.weights.resize(batch.tokens.size() + one.tokens.size(), 1.0f);
    }
    batch.tokens.insert(batch.tokens.end(), one.tokens.begin(), one.tokens.end());
    batch.targets.insert(batch.targets.end(), one.targets.begin(), one.targets.end());
  }
}

}  // namespace taipan
