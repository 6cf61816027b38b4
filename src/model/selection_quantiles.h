#pragma once
// Thresholds of selective layers from the margins s1 - s0 that a text gives, for any budget.

#include <string>
#include <vector>

#include "model/model.h"

namespace taipan {

// The value that round(budget * n) of the n finite values exceed. values is reordered; at least one is finite.
double MarginQuantile(std::vector<float>& values, double budget);

// What calibration found, kept beside a model's weights in selection.json.
struct SelectionQuantiles {
  int64_t tokens = 0;                        // of the text
  std::vector<double> shares;                // ascending, in (0, 1]
  std::vector<std::vector<double>> margins;  // [SAL][share]: exceeded by that share of the tokens

  // One a SAL; between the shares by linear interpolation.
  std::vector<double> ThresholdsAt(double budget) const;
};
void VisitFields(SelectionQuantiles& quantiles, const FieldVisitor& visit);

void SaveSelectionQuantiles(const SelectionQuantiles& quantiles, const std::string& directory);
// UserError with a hint where the model in `directory` was not calibrated, and for another number of SALs.
SelectionQuantiles LoadSelectionQuantiles(const std::string& directory, int64_t sals);

}  // namespace taipan
