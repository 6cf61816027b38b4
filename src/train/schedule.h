#pragma once
// What changes from step to step; steps count from 1. Settings must be resolved.

#include "train/settings.h"
#include "train/stages.h"

namespace taipan {

// Linear warm-up to the peak, then half a cosine to the minimum, which the last step uses; or the peak until DecaySteps
// before the end and from there the minimum + 1 - sqrt(share of the decay). In a range test the rate rises
// exponentially.
double LearningRate(const TrainSettings& s, int64_t step);

// Tokens of a document and rows of a step.
Stages ContextStages(const TrainSettings& s);
Stages BatchStages(const TrainSettings& s);

// lambda: the start value until step A, then linearly to the final value at step B; "0:0": the final value throughout.
double BudgetLossWeight(const TrainSettings& s, int64_t step);

// C, the share of tokens to select. By threshold: all until step A, then linearly fewer to the budget at step B, so
// that alpha learns on every token what attention is worth; "0:0" and other rules: the budget throughout.
double Budget(const TrainSettings& s, int64_t step);

}  // namespace taipan
