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

namespace {

// Runs of equal length with at most `most` windows of the corpus.
int64_t WindowsOfRun(const Corpus& corpus, int64_t context, int64_t most) {
  const int64_t all = std::max<int64_t>(1, (corpus.size() - 1) / context);
  return all / ((all + most - 1) / most);
}

}  // namespace

CarriedSource::CarriedSource(const Corpus& corpus, const CarriedWindows& shape, int64_t batch_size, WindowOrder order,
                             uint64_t seed)
    : corpus_(corpus),
      context_(shape.context),
      windows_(WindowsOfRun(corpus, shape.context, shape.windows)),
      separate_(shape.separate),
      runs_(corpus, windows_ * shape.context, batch_size, order, seed) {}

// Were all rows to begin at once, all states would be equally old and the loss would rise and fall with them.
CarriedSource::Place CarriedSource::At(int64_t step, int64_t row) const {
  const int64_t windows_read = step + row * windows_ / batch_size(), window = windows_read % windows_;
  return {window, runs_.WindowStart(windows_read / windows_, row) + window * context_};
}

bool CarriedSource::GoesOn(int64_t step, int64_t row) const {
  const Place place = At(step, row);
  if (step == 0 || place.window == 0) return false;
  if (!separate_) return true;
  const DocumentSpan document = corpus_.Documents(corpus_.DocumentAt(place.begin), 1)[0];
  return document.begin < place.begin && place.begin < document.begin + document.length - 1;
}

void CarriedSource::Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const {
  std::vector<int32_t> window(static_cast<size_t>(context_ + 1));
  ClearBatch(batch);
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    const int64_t begin = At(step, row).begin;
    if (separate_) {
      for (const Piece& piece : PiecesBetween(corpus_, begin, context_)) AppendPiece(batch, corpus_, piece, row);
      continue;
    }
    corpus_.Read(begin, context_ + 1, window.data());
    AppendWindow(batch, window.data(), context_, row);
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
