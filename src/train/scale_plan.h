#pragma once
// What a run takes on one machine or on many, before it is begun: a stated model, fed with measured rates.
// docs/scale.md says what is assumed and compares it with runs.

#include <cstdint>
#include <string>
#include <vector>

#include "model/training_memory.h"
#include "train/optimizer.h"

namespace taipan {

struct ScaleRequest {
  double tokens = 0;        // of the run
  int64_t ranks = 1;        // one a machine
  double network = 0;       // bits a second that a machine sends, and receives at the same time
  int64_t context = 4096;   // tokens a sequence
  int64_t batch = 128;      // sequences a step, over all ranks
  int64_t micro_batch = 1;  // sequences a forward
  DType dtype = DType::kBF16;
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  MomentType moments = MomentType::kF32;
  int64_t sequence_ranks = 1;  // that hold a sequence together

  int64_t own_context() const { return (context + sequence_ranks - 1) / sequence_ranks; }  // tokens that a rank holds
  int64_t rows_per_rank() const { return batch * sequence_ranks / ranks; }
};

// Of one machine, measured.
struct ScaleRates {
  double seconds_per_micro_batch = 0;  // forward and backward, of the tokens that a rank holds
  double optimizer_seconds = 0;        // of all parameters, with the gradient's norm
  double copy_bytes_per_second = 0;    // of memory
};

struct ScalePlan {
  double parameters = 0, flops_per_token = 0;
  int64_t steps = 0, rows_per_rank = 0;
  double sent_bytes = 0;  // by a rank, a step
  double idle_share =
      0;  // of compute_seconds: waiting for the ranks that have the parts of a sequence before or behind
  // A step; of the network what is not beside a backward.
  double compute_seconds = 0, network_seconds = 0, copy_seconds = 0, optimizer_seconds = 0;

  double step_seconds() const { return compute_seconds + network_seconds + copy_seconds + optimizer_seconds; }
  double seconds() const { return static_cast<double>(steps) * step_seconds(); }
};

// UserError where the sequences of a step cannot be shared out evenly.
void CheckScale(const ScaleRequest& request);
// The memory of a rank; recompute: how it trains. Of several ranks scratch has the buckets that travel, and kept the
// states of parts of sequences.
TrainingMemory ScaleMemory(const ModelConfig& config, const ScaleRequest& request, Recompute recompute);
// The mildest recomputation that fits into so many bytes; the last one where none does.
Recompute MildestRecompute(const ModelConfig& config, const ScaleRequest& request, int64_t available);
ScalePlan PlanScale(const ModelConfig& config, const ScaleRequest& request, const ScaleRates& rates);

// What one rank sends for one step: its part of the gradients' sums and its updated weights to all others, f32.
double SentBytes(double parameters, int64_t ranks);
// And of sequences that lie on several ranks: states to the next, their gradients to the one before.
double SentStateBytes(const ModelConfig& config, const ScaleRequest& request);

// "100B", "27.5M", "4096": a number of tokens. UserError.
double ParseCount(const std::string& flag, const std::string& text);

}  // namespace taipan
