#pragma once
// Bytes that training takes at its peak, from config and settings alone, so that what cannot fit is refused before it
// begins. training_memory_test.cc compares it with the arenas of real steps.

#include "model/config.h"
#include "model/model.h"

namespace taipan {

struct TrainingShape {
  int64_t rows = 1, context = 1;  // sequences and tokens a sequence of one forward: the micro-batch
  DType dtype = DType::kF32;
  Recompute recompute = Recompute::kNone;
  bool one_moment = false;  // of hidden matrices: Muon
  DType moments = DType::kF32;
  bool average = false;       // of the weights
  int64_t ranks = 1;          // that train together: each has its share of the moments
  bool one_backward = false;  // a step: of several ranks each has its share of the gradients, too

  int64_t tokens() const { return rows * context; }
};

struct TrainingMemory {
  int64_t weights = 0;    // f32 masters, and their average
  int64_t copies = 0;     // of linear weights in bf16
  int64_t gradients = 0;  // f32; of several ranks the share and one part of the model: a layer, say
  int64_t moments = 0;    // AdamW's two, or Muon's one
  int64_t kept = 0;     // activations that wait for the backward pass; those of one block again with Recompute::kBlock
  int64_t scratch = 0;  // of the block or the head at work

  int64_t total() const { return weights + copies + gradients + moments + kept + scratch; }
  int64_t snapshot() const { return weights + moments; }  // more, while a checkpoint is written beside training
};

TrainingMemory PlanTraining(const ModelConfig& config, const TrainingShape& shape);

// "2.4 GiB: weights 0.5, ..."
std::string Describe(const TrainingMemory& memory);

}  // namespace taipan
