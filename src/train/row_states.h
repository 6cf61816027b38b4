#pragma once
// The states that the rows of a training step begin with, where that is not zero: those that the rows of the step
// before ended with (--state carry), or noise as large as theirs (--state random). They get no gradient.

#include <cstdint>
#include <string>
#include <vector>

#include "dist/group.h"
#include "model/model.h"
#include "train/batch_source.h"
#include "train/settings.h"

namespace taipan {

// UserError where the model has no state of the kind that the settings ask for.
void CheckRowStates(const TrainSettings& settings, const ModelConfig& config);

class RowStates {
 public:
  RowStates(const LanguageModel& model, StateStart start, uint64_t seed);

  // Gives the segments of a step's micro-batches their states; step counts from 0. They live until the next call.
  void Bind(const LanguageModel& model, const BatchSource& source, int64_t step, std::vector<Batch>& batches);
  // After the step: what its rows ended with is what the next begins with. Of several ranks each has its own rows.
  void Advance(const LanguageModel& model, Group& group = Alone());
  // Rows that go on do so without a state from here: what is there belongs to another text.
  void BeginAfresh();

  // By all ranks: the first one gets the states of all rows of a step; each gets its own of what the first has loaded.
  RowStates Gathered(const LanguageModel& model, Group& group, int64_t rows) const;
  void Scatter(const LanguageModel& model, Group& group, int64_t rows);

  // One file, bit for bit.
  void Save(const LanguageModel& model, const std::string& path) const;
  void Load(const LanguageModel& model, const std::string& path);

 private:
  void MakeNoise(const LanguageModel& model, int64_t step, std::vector<Batch>& batches);
  void Measure(const LanguageModel& model, Group& group);
  std::vector<double> Positions(int64_t rows) const;

  StateStart start_;
  uint64_t seed_;
  std::vector<SequenceState> before_, after_;  // a row each; layers empty: none
  std::vector<SequenceState> noise_;           // a segment of the step each
  // kRandom: mean square of the final SSM states of each head, [layers][heads], a moving average; [] without a state.
  std::vector<Tensor> power_;
};

}  // namespace taipan
