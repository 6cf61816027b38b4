#pragma once
// The gradients of a step. Of several ranks each keeps the sums of those elements alone that it updates (ZeRO-2): what
// a backward is done with travels while the backward goes on, from the head down to the embedding, and its memory is
// used again for the next layer. Where gradients add up over several backwards of a step they are kept whole until the
// last one.

#include <memory>
#include <vector>

#include "model/model.h"
#include "train/shards.h"

namespace taipan {

class WeightGroups;

class StepGradients {
 public:
  // Takes the memory of whole gradients where there is one rank, else when it is seen to be needed.
  StepGradients(const LanguageModel& model, Shards& shards, const WeightGroups& trained);
  ~StepGradients();

  // Zeros for the first backward of a step. once: it is the only one, and gets Done.
  ModelParams& Begin(bool once);
  // For the last backward of a step; null of one rank.
  GradientsDone Done();
  // In place of a last backward with Done: all at once, behind it.
  void SumAll();
  // Waits for the sums. Afterwards own() has them, and zeros for weights that are not trained.
  void Finish();
  // Of this rank's elements of each weight, until the next step.
  const std::vector<float*>& own() const { return own_; }
  // Of each weight's gradient, over all ranks.
  std::vector<double> SquaredNorms();
  // own() is zero: the optimizer has used it.
  void Used() { zero_ = true; }

  const ModelParams& declared() const { return gradients_; }

  // Elements that are in memory at once of a rank of several, where there is one backward a step.
  static int64_t ElementsAtOnce(const ModelParams& params);

 private:
  class Sums;
  void BindWhole();
  void BindUnits();
  void BindUnit(size_t unit);
  void Pack(const Shards::Bucket& bucket, size_t first, size_t last, float* to);
  void Leave(size_t unit);

  Shards& shards_;
  const WeightGroups& trained_;
  ModelParams gradients_;
  std::vector<Weight*> weights_;  // in file order
  // In the order in which a backward is done with them: the head, the layers from the last one, the embedding.
  std::vector<std::vector<Weight*>> units_;
  std::vector<size_t> unit_of_;  // a weight each
  std::vector<Shards::Bucket> buckets_;
  size_t bucket_ = 0, part_ = 0;  // packed next
  bool whole_ = false;            // gradients_ is bound; else a unit of it at a time, to room_
  bool zero_ = true;
  Tensor room_, own_sums_;  // where not whole
  std::vector<float*> own_;
  std::unique_ptr<Sums> sums_;  // of several ranks
};

}  // namespace taipan
