#pragma once
// The useful work of a training step, a prefill or a decode, by operation, from the config alone.

#include <vector>

#include "layers/cost.h"
#include "model/config.h"

namespace taipan {

// Mamba-2's scan counts as the recurrence, 4 * d_inner * d_state a token, its convolution 2 * W a channel; a query of
// causal attention sees half of a full context (its own key counts half); the head works on every token in training,
// scoring and decoding and on the last one of a prompt. A backward counts twice its forward.
std::vector<OpCost> CostByOperation(const ModelConfig& config, const Workload& workload);
double TotalFlops(const std::vector<OpCost>& costs);
double TotalBytes(const std::vector<OpCost>& costs);

// The matrix products of a forward, equal shapes together; those that selected or labelled tokens alone need with their
// share. A prompt's head is left out: 1 / context of it is nothing beside the rest.
std::vector<MatrixProduct> ProductsOf(const ModelConfig& config, const Workload& workload);

}  // namespace taipan
