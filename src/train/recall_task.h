#pragma once
// Multi-query associative recall (Arora et al., "Zoology", 2023): a list of key-value pairs, then the keys again, each
// at a random place among blanks; the model has to say the value at each repeated key.

#include <vector>

#include "train/batch_source.h"

namespace taipan {

struct RecallTask {
  int64_t length = 128;  // tokens a sequence
  int64_t pairs = 16;
  int64_t vocab = 256;  // 0: blank; keys 1 ... vocab/2 - 1; values vocab/2 ... vocab - 1
  // 0: a key comes back anywhere, and values may be equal. Above 0 as in zoology, which has 0.01 and 8192 ids: at every
  // second place, place i with a weight of (i + 1)^(power - 1), and no value twice.
  double power = 0;
  // Joint recall (after "Overcoming Long-Context Limitations of State-Space Models via Context-Dependent Sparse
  // Attention", 2025) where above 1: the same pairs / contexts keys stand behind each of so many context tokens (the
  // lowest keys), with values of their own; a context token and a key ask for the value. Which pair matters depends on
  // more than the token that asks.
  int64_t contexts = 1;
  uint64_t seed = 0;
};

// Sequence `index` of the task: tokens [length] and targets [length], -1 but at the queries.
struct RecallSequence {
  std::vector<int32_t> tokens, targets;
};
RecallSequence MakeRecallSequence(const RecallTask& task, uint64_t index);

class RecallSource : public BatchSource {
 public:
  RecallSource(const RecallTask& task, int64_t batch_size) : task_(task), batch_size_(batch_size) {}
  int64_t batch_size() const override { return batch_size_; }
  void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const override;

 private:
  RecallTask task_;
  int64_t batch_size_;
};

}  // namespace taipan
