#pragma once
// `taipan generate --n N --best-of M`: several texts that go on from one prompt, and which of them are shown.

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/generate_report.h"
#include "infer/choices.h"
#include "text/tokenizer.h"

namespace taipan {

struct ChoiceFlags {
  int64_t n = 1;
  std::optional<int64_t> best_of;

  int64_t candidates() const { return best_of.value_or(n); }
  bool several() const { return candidates() > 1; }
};
void AddChoiceFlags(CLI::App& command, ChoiceFlags& flags);
// UserError for flags that contradict each other. save_state: whether the state is to be kept.
void CheckChoiceFlags(const ChoiceFlags& flags, const SamplingOptions& sampling, bool save_state);

struct ChoiceOutput {
  const Tokenizer& tokenizer;
  std::optional<int32_t> after;  // the token that the texts go on from, where they are one text with it
  std::vector<std::string> stop = {};
  bool show_special = false, json = false, logprobs = false;
};
// Draws the candidates from where the generator is, shows those chosen unless they go into JSON, and adds to the
// outcome. The generator goes on as the best one where keep_state says so.
void WriteChoices(const ChoiceFlags& flags, const GenerationOptions& options, const ChoiceOutput& output,
                  bool keep_state, Generator& generator, Outcome& outcome);

}  // namespace taipan
