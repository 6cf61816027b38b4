#pragma once
// taipan inspect MODEL --selection: which tokens of a text the selective layers pick.

#include <functional>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

namespace taipan {

// Declares --selection and what goes with it. What is returned does the work for a model and says whether --selection
// was given.
std::function<bool(const std::string& model, bool json)> AddSelectionFlags(CLI::App& command);

}  // namespace taipan
