#pragma once
// The useful work of a training step, a prefill or a decode, by operation, from the config alone: what measured times
// are compared with. Recomputation, unselected queries and the extra products of chunked scans are not useful work.

#include <string>
#include <vector>

#include "model/config.h"

namespace taipan {

enum class Phase { kTrain, kPrefill, kDecode };

struct Workload {
  Phase phase = Phase::kTrain;
  int64_t context = 1;        // kTrain, kPrefill: tokens a sequence; kDecode: tokens read before
  int64_t tokens = 1;         // kDecode: tokens a sequence after the context
  int64_t sequences = 1;      // a run
  int64_t forwards = 1;       // a run: each reads the weights (micro-batches, pieces of a prompt, decode steps)
  double selected_share = 1;  // queries of selective attention layers
  int64_t element_bytes = 4;  // of activations and weights in products: 2 for bf16
};
int64_t TokensOf(const Workload& w);  // read in a run

// Of one run. Names are those of the timers in layers, model and train: "in_proj", "in_proj backward", ...
struct OpCost {
  std::string op;
  double flops = 0;  // two a multiplication with addition; products, convolution, scan and attention only
  double bytes = 0;  // what the operation must read and write once in memory
};

// Mamba-2's scan counts as the recurrence, 4 * d_inner * d_state a token, its convolution 2 * W a channel; a query of
// causal attention sees half of a full context (its own key counts half); the head works on every token in training and
// decoding and on the last one of a prompt. A backward counts twice its forward.
std::vector<OpCost> CostByOperation(const ModelConfig& config, const Workload& workload);
double TotalFlops(const std::vector<OpCost>& costs);
double TotalBytes(const std::vector<OpCost>& costs);

}  // namespace taipan
