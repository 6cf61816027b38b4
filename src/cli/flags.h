#pragma once
// The flags that commands share, and checks of values.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>

namespace taipan {

// --threads N and --isa NAME, acting at once.
void AddThreadsFlag(CLI::App& command);
// Checks for flags. Unlike CLI::Range they refuse NaN and signs of unsigned numbers, and say what they expect.
CLI::Validator NumberFromTo(double least, double most);
CLI::Validator WholeNumber(int64_t least, int64_t most = std::numeric_limits<int64_t>::max());
// For an option with a list of texts or paths: CLI11 would read [a,b] as two, and [a] as a.
void TakeTextsAsTheyAre(CLI::Option& option);
void AddJsonFlag(CLI::App& command, bool& json);

}  // namespace taipan
