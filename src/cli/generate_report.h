#pragma once
// What `taipan generate` says of a run: one JSON object, or a line on standard error.

#include <optional>
#include <string>
#include <vector>

#include "cli/output.h"
#include "infer/generator.h"

namespace taipan {

// A text that the model wrote.
struct WrittenText {
  std::string text = {};
  std::vector<int32_t> tokens = {};
  std::vector<TokenLogprobs> logprobs = {};
  // Of one of several candidates:
  int64_t candidate = 0;
  uint64_t seed = 0;
  double mean_logprob = 0;
  StopReason stop_reason = StopReason::kMaxTokens;
};

struct Outcome {
  int64_t restored = 0, position = 0;  // tokens: where it began and how it ended
  GenerationStats stats = {};          // of all candidates
  std::string dtype = {};
  bool drafts = false;  // guesses were asked for
  int64_t best_of = 1;
  std::vector<WrittenText> texts = {};  // the best first; none after a signal in the prompt
  std::optional<uint64_t> seed = {};    // none: nothing was drawn by chance
};

OrderedJson ToJson(const Outcome& outcome, bool logprobs);
std::string ReportLine(const Outcome& outcome);

}  // namespace taipan
