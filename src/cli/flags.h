#pragma once
// The flags that commands share, and checks of values.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>

#include "base/fields.h"

namespace taipan {

// --threads N and --isa NAME, acting at once.
void AddThreadsFlag(CLI::App& command);
// Checks for flags: a decimal number, nothing else, in the range; they say what they expect.
CLI::Validator NumberFromTo(double least, double most);
CLI::Validator WholeNumber(int64_t least, int64_t most = std::numeric_limits<int64_t>::max());
// Of counts of tokens: more than anything holds, and sums and products of two sizes stay far from the ends of int64_t.
constexpr int64_t kMostTokens = int64_t{1} << 40;
CLI::Validator SeedNumber();  // all of uint64_t
// Of a field of settings; the bounds of whole numbers belong to the range.
CLI::Validator WholeNumberIn(const NumberRange& range);
CLI::Validator NumberIn(const NumberRange& range);
// "--a, --b": those of the flags that the user gave.
std::string GivenFlags(const CLI::App& command, const std::vector<std::string>& flags);
// For an option with a list of texts or paths: CLI11 would read [a,b] as two, and [a] as a.
void TakeTextsAsTheyAre(CLI::Option& option);
// --tokenizer FILE|DIR|GGUF in place of the model's own.
void AddTokenizerFlag(CLI::App& command, std::string& tokenizer);
void AddJsonFlag(CLI::App& command, bool& json);

}  // namespace taipan
