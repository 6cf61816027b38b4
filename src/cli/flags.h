#pragma once
// The flags that commands share, and checks of values.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/fields.h"
#include "model/default_dtype.h"

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
// A flag whose values are `names`: those of the enum, or some of them.
template <class Enum>
CLI::Option* AddEnumFlag(CLI::App& command, const std::string& flag, Enum& value, const std::string& help,
                         const std::vector<std::string>& names = NamesOf(Enum{})) {
  const auto take = [&value](const std::string& name) {
    const std::vector<std::string> all = NamesOf(Enum{});
    value = static_cast<Enum>(std::find(all.begin(), all.end(), name) - all.begin());
  };
  return command.add_option_function<std::string>(flag, take, help)
      ->check(CLI::IsMember(names))
      ->default_str(NameIn(value));
}
// --dtype of commands that run a model: auto, f32 or bf16; of benchmarks, which say what they measure.
CLI::Option* AddDTypeFlag(CLI::App& command, ComputeType& dtype);
// --kv-dtype: auto, f32, bf16 or int8.
CLI::Option* AddKvDTypeFlag(CLI::App& command, KvType& dtype);
CLI::Option* AddBenchDTypeFlag(CLI::App& command, ComputeType& dtype);

}  // namespace taipan
