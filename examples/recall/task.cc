#include "task.h"

#include "base/rng.h"

namespace taipan {

RecallSequence MakeRecallSequence(const RecallTask& task, uint64_t index) {
  const int64_t keys = task.vocab / 2 - 1, values = task.vocab - task.vocab / 2, rest = task.length - 2 * task.pairs;
  CHECK_GE(keys, task.pairs);
  CHECK_GE(rest, task.pairs);
  const auto key_of = [&](uint32_t what) { return RandomKey{task.seed + (index << 8), kTaskStream + what, 0}; };
  RecallSequence s{std::vector<int32_t>(static_cast<size_t>(task.length), 0),
                   std::vector<int32_t>(static_cast<size_t>(task.length), -1)};
  for (int64_t i = 0; i < task.pairs; ++i) {
    const uint64_t u = static_cast<uint64_t>(i);
    const int64_t key = 1 + static_cast<int64_t>(RandomPermutation(key_of(0), u, static_cast<uint64_t>(keys)));
    const int64_t value =
        task.vocab / 2 + static_cast<int64_t>(RandomBelow(key_of(1), u, static_cast<uint64_t>(values)));
    const int64_t query =
        2 * task.pairs + static_cast<int64_t>(RandomPermutation(key_of(2), u, static_cast<uint64_t>(rest)));
    s.tokens[static_cast<size_t>(2 * i)] = static_cast<int32_t>(key);
    s.tokens[static_cast<size_t>(2 * i + 1)] = static_cast<int32_t>(value);
    s.tokens[static_cast<size_t>(query)] = static_cast<int32_t>(key);
    s.targets[static_cast<size_t>(query)] = static_cast<int32_t>(value);
  }
  return s;
}

void RecallSource::Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const {
  ClearBatch(batch);
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    const RecallSequence s = MakeRecallSequence(task_, static_cast<uint64_t>(step * batch_size_ + row));
    Segment segment;
    segment.begin = batch.size();
    segment.length = task_.length;
    segment.row = row;
    batch.segments.push_back(segment);
    batch.tokens.insert(batch.tokens.end(), s.tokens.begin(), s.tokens.end());
    batch.targets.insert(batch.targets.end(), s.targets.begin(), s.targets.end());
  }
}

}  // namespace taipan
