#pragma once
// The same random rows every step: filling them costs a copy.

#include "cli/bench/bench_run.h"
#include "train/batch_source.h"

namespace taipan {

class RandomRows : public BatchSource {
 public:
  RandomRows(int64_t rows, int64_t context, int64_t vocab_size)
      : rows_(rows), context_(context), tokens_(RandomTokens(rows * (context + 1), vocab_size)) {}
  int64_t batch_size() const override { return rows_; }
  void Fill(int64_t, int64_t first_row, int64_t rows, Batch& batch) const override {
    ClearBatch(batch);
    for (int64_t row = first_row; row < first_row + rows; ++row) {
      AppendWindow(batch, tokens_.data() + row * (context_ + 1), context_, row);
    }
  }

 private:
  int64_t rows_, context_;
  std::vector<int32_t> tokens_;  // [rows, context + 1]
};

}  // namespace taipan
