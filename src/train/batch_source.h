#pragma once
// Where the rows of a training step come from.

#include <cstdint>
#include <memory>
#include <vector>

#include "data/mixing.h"
#include "data/packing.h"
#include "data/windows.h"
#include "model/model.h"
#include "train/stages.h"

namespace taipan {

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual int64_t batch_size() const = 0;  // rows a step, but for a schedule
  // Fills `batch` with the rows [first_row, first_row + rows) of a step; step counts from 0, Segment::row is the row of
  // the step. A pure function of its arguments: nothing else is saved for a resumed run.
  virtual void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const = 0;
  // Whether a row begins where it ended in the step before, within the same document.
  virtual bool GoesOn(int64_t, int64_t) const { return false; }  // step, row
};

// Windows over a corpus: a row is one document of n tokens, each with a target, or several in steps of a shorter
// context. The order of windows depends neither on the context nor on the rows of a step.
class CorpusSource : public BatchSource {
 public:
  explicit CorpusSource(WindowLoader loader) : loader_(std::move(loader)) {}
  // context: of documents, divisors of the loader's; rows: a step. Without stages: the loader's.
  CorpusSource(WindowLoader loader, Stages context, Stages rows)
      : loader_(std::move(loader)), context_(std::move(context)), rows_(std::move(rows)) {}
  int64_t batch_size() const override { return loader_.batch_size(); }
  void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const override;
  const WindowLoader& loader() const { return loader_; }

 private:
  WindowLoader loader_;
  Stages context_, rows_;
};

struct CarriedWindows {
  int64_t context = 0, windows = 1;
  bool separate = false;
};

// Documents that share rows: each is a segment of its own, so state, convolution and attention begin anew with it.
class PackedSource : public BatchSource {
 public:
  // The corpus must outlive it.
  PackedSource(const Corpus& corpus, PackedRows rows, int64_t batch_size)
      : corpus_(corpus), rows_(std::move(rows)), batch_size_(batch_size) {}
  int64_t batch_size() const override { return batch_size_; }
  void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const override;
  const PackedRows& rows() const { return rows_; }

 private:
  const Corpus& corpus_;
  PackedRows rows_;
  int64_t batch_size_;
};

// Text in its own order, a window a step: row r goes on where it ended in the step before. An epoch is cut into runs of
// consecutive windows, as many in each as are wanted or a little fewer, so that nearly all are used; rows take runs in
// turn, in a random order where shuffled, and begin theirs at different steps.
class CarriedSource : public BatchSource {
 public:
  // windows: of a run, at most. separate: documents are segments of their own. The corpus must outlive it.
  CarriedSource(const Corpus& corpus, const CarriedWindows& shape, int64_t batch_size, WindowOrder order,
                uint64_t seed);
  int64_t batch_size() const override { return runs_.batch_size(); }
  void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const override;
  bool GoesOn(int64_t step, int64_t row) const override;
  int64_t windows() const { return windows_; }  // of a run

 private:
  struct Place {
    int64_t window = 0, begin = 0;  // of the run; the token where it begins
  };
  Place At(int64_t step, int64_t row) const;

  const Corpus& corpus_;
  int64_t context_, windows_;
  bool separate_;
  WindowLoader runs_;
};

// Rows of several sources in given shares.
class MixedSource : public BatchSource {
 public:
  // sources: of one row a step each.
  MixedSource(std::vector<std::shared_ptr<const BatchSource>> sources, const std::vector<double>& weights,
              int64_t batch_size, uint64_t seed)
      : sources_(std::move(sources)), mix_(weights, seed), batch_size_(batch_size) {}
  int64_t batch_size() const override { return batch_size_; }
  void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const override;

 private:
  std::vector<std::shared_ptr<const BatchSource>> sources_;
  MixSchedule mix_;
  int64_t batch_size_;
};

// Empties a batch and appends rows to it: window [n + 1] gives n inputs and n targets of row `row` of the step, as one
// document.
void ClearBatch(Batch& batch);
void AppendWindow(Batch& batch, const int32_t* window, int64_t n, int64_t row);
// A piece of a document as a segment of row `row`, behind those of the row that the batch holds. Tokens of weight 0 are
// no targets.
void AppendPiece(Batch& batch, const Corpus& corpus, const Piece& piece, int64_t row);

}  // namespace taipan
