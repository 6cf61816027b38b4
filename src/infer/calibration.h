#pragma once
// Thresholds fitted after training: each selective layer's margin that the budget's share of a text's tokens exceeds.

#include <functional>
#include <span>

#include "model/model.h"
#include "model/selection_quantiles.h"

namespace taipan {

// Reads the text once for each SAL, for a later one's margins depend on what the earlier ones select at `budget`.
// Quantiles for other budgets are those of the same margins. Leaves the thresholds for `budget` in the model. UserError
// naming `where` for a model without SALs or whose rule does not ask the gate, and for a text of too few tokens.
SelectionQuantiles Calibrate(LanguageModel& model, std::span<const int32_t> tokens, double budget,
                             const std::string& where, const std::function<void(int64_t)>& on_progress = nullptr);

// Selects for another budget from now on, by the quantiles that a calibration left beside the weights in `directory`.
void UseBudget(LanguageModel& model, const std::string& directory, double budget);

}  // namespace taipan
