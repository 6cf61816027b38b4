#include "train/recall_task.h"

#include "base/power_law.h"
#include "base/rng.h"

namespace taipan {
namespace {

RecallSequence Blanks(const RecallTask& task) {
  return {std::vector<int32_t>(static_cast<size_t>(task.length), 0),
          std::vector<int32_t>(static_cast<size_t>(task.length), -1)};
}

// Draws of a sequence, a stream for each thing that is drawn.
struct Draws {
  const RecallTask& task;
  uint64_t index;
  RandomKey Key(uint32_t what) const { return {task.seed + (index << 8), kTaskStream + what, 0}; }
  int64_t Below(uint32_t what, int64_t i, int64_t n) const {
    return static_cast<int64_t>(RandomBelow(Key(what), static_cast<uint64_t>(i), static_cast<uint64_t>(n)));
  }
  int64_t Permuted(uint32_t what, int64_t i, int64_t n) const {
    return static_cast<int64_t>(RandomPermutation(Key(what), static_cast<uint64_t>(i), static_cast<uint64_t>(n)));
  }
};

RecallSequence JointSequence(const RecallTask& task, uint64_t index) {
  const int64_t each = task.pairs / task.contexts, body = task.contexts * (1 + 2 * each);
  const int64_t first_key = 1 + task.contexts, keys = task.vocab / 2 - first_key, slots = (task.length - body) / 2;
  CHECK_GE(keys, each);
  CHECK_GE(slots, each * task.contexts);
  const Draws draw{task, index};
  RecallSequence s = Blanks(task);
  const auto set = [&](int64_t at, int64_t token) { s.tokens[static_cast<size_t>(at)] = static_cast<int32_t>(token); };
  for (int64_t c = 0; c < task.contexts; ++c) {
    const int64_t begin = c * (1 + 2 * each), context = 1 + draw.Permuted(3, c, task.contexts);
    set(begin, context);
    for (int64_t i = 0; i < each; ++i) {
      const int64_t pair = c * each + i, query = body + 2 * draw.Permuted(2, pair, slots);
      const int64_t key = first_key + draw.Permuted(0, i, keys);
      const int64_t value = task.vocab / 2 + draw.Below(1, pair, task.vocab - task.vocab / 2);
      set(begin + 1 + 2 * i, key);
      set(begin + 2 + 2 * i, value);
      set(query, context);
      set(query + 1, key);
      s.targets[static_cast<size_t>(query + 1)] = static_cast<int32_t>(value);
    }
  }
  return s;
}

}  // namespace

RecallSequence MakeRecallSequence(const RecallTask& task, uint64_t index) {
  if (task.contexts > 1) return JointSequence(task, index);
  const int64_t keys = task.vocab / 2 - 1, values = task.vocab - task.vocab / 2, rest = task.length - 2 * task.pairs;
  const bool by_power = task.power > 0;
  CHECK_GE(keys, task.pairs);
  CHECK_GE(by_power ? rest / 2 : rest, task.pairs);
  const Draws draw{task, index};
  RecallSequence s = Blanks(task);
  std::vector<int64_t> places;
  if (by_power) places = RandomByPowerLaw(draw.Key(2), rest / 2, task.pairs, task.power);
  for (int64_t i = 0; i < task.pairs; ++i) {
    const int64_t key = 1 + draw.Permuted(0, i, keys);
    const int64_t value = task.vocab / 2 + (by_power ? draw.Permuted(1, i, values) : draw.Below(1, i, values));
    const int64_t query = 2 * task.pairs + (by_power ? 2 * places[static_cast<size_t>(i)] : draw.Permuted(2, i, rest));
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
