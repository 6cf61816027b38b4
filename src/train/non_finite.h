#pragma once
// Where the numbers of a step that diverged go wrong first.

#include <span>
#include <string>

#include "model/model.h"

namespace taipan {

// The name of the first tensor, in file order, that holds a NaN or an infinity; "" where all are finite.
std::string FirstNonFinite(ModelParams& params);

// The first weight that is not finite, the first layer whose output is not, with its token, the logits or the loss, or
// the gradient that is named ("": all are finite). Runs the step's forward once more. Of the batches of one step.
std::string FindNonFinite(LanguageModel& model, const std::string& gradient, std::span<const Batch> batches,
                          const GateOptions& gate, ForwardContext& context);

}  // namespace taipan
