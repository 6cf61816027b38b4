#pragma once
// The parameters of a model by group, from its config alone.

#include <string>
#include <vector>

#include "model/config.h"

namespace taipan {

struct ParameterGroup {
  std::string name;  // "mamba2 in_proj"
  double count;  // a whole number; a double because sizes of unchecked configs must not wrap round. Exact below 2^53
};

// Groups in the order of the network; those that the pattern does not have are left out. Needs positive sizes for the
// kinds of blocks that occur, nothing else.
std::vector<ParameterGroup> ParameterGroups(const ModelConfig& config);

// The sum, in doubles.
double SumParameterGroups(const std::vector<ParameterGroup>& groups);

}  // namespace taipan
