#include "infer/choices.h"

#include <algorithm>
#include <deque>
#include <iterator>

#include "base/clock.h"

namespace taipan {
namespace {

constexpr int64_t kSideBySide = 64;  // candidates in one forward

BatchRequest Request(const SequenceSnapshot& from, const GenerationOptions& options, const ChoiceOptions& choices,
                     Choice& choice) {
  BatchRequest request{
      .options = options, .from = from, .keep_state = choices.keep_states, .score = true, .on_token = nullptr};
  request.options.sampling.seed = choice.seed;
  request.options.on_logprobs = nullptr;
  if (choices.keep_logprobs) {
    request.options.on_logprobs = [&choice](const TokenLogprobs& of) { choice.logprobs.push_back(of); };
  }
  request.on_token = [&choice, &choices](int32_t token, std::span<const float>) {
    choice.tokens.push_back(token);
    return !choices.on_token || choices.on_token(choice.candidate, token);
  };
  request.on_end = [&choice](BatchResult result) {
    if (result.generated_tokens > 0) {
      choice.mean_logprob = result.logprob / static_cast<double>(result.generated_tokens);
    }
    choice.result = std::move(result);
  };
  return request;
}

bool Better(const Choice& a, const Choice& b) {
  const bool of_a = a.result.generated_tokens > 0, of_b = b.result.generated_tokens > 0;
  return of_a != of_b ? of_a : a.mean_logprob > b.mean_logprob;
}

// A state takes memory: those of candidates that others have beaten go.
void KeepBestStates(std::deque<Choice>& drawn, int64_t n) {
  std::vector<Choice*> with_state;
  for (Choice& choice : drawn) {
    if (choice.result.snapshot) with_state.push_back(&choice);
  }
  std::stable_sort(with_state.begin(), with_state.end(),
                   [](const Choice* a, const Choice* b) { return Better(*a, *b); });
  for (size_t i = static_cast<size_t>(n); i < with_state.size(); ++i) with_state[i]->result.snapshot.reset();
}

}  // namespace

void ValidateChoices(const ChoiceOptions& options, const SamplingOptions& sampling, const std::string& prefix) {
  const auto require = [&](bool ok, const char* name, const std::string& problem, const std::string& expected,
                           int64_t found) {
    if (!ok) throw UserError({prefix + name, problem, expected, std::to_string(found)});
  };
  const std::string most = std::to_string(kMostCandidates);
  require(options.n >= 1 && options.n <= kMostCandidates, "n", "value out of range", "from 1 to " + most, options.n);
  require(options.best_of >= options.n && options.best_of <= kMostCandidates, "best-of",
          "cannot choose that many from fewer candidates", fmt::format("from n ({}) to {}", options.n, most),
          options.best_of);
  require(options.best_of == 1 || sampling.temperature > 0, options.n > 1 ? "n" : "best-of",
          "at temperature 0 all candidates are the same", "1, or a temperature above 0",
          options.n > 1 ? options.n : options.best_of);
}

Choices GenerateChoices(const LanguageModel& model, const SequenceSnapshot& from, const GenerationOptions& options,
                        const ChoiceOptions& choices) {
  ValidateChoices(choices, options.sampling);
  const double start = NowSeconds();
  Batcher batcher(model, {.most_sequences = kSideBySide});
  std::deque<Choice> drawn;  // callbacks point into it
  bool stopped = false, more = true;
  while (more) {
    stopped = stopped || (choices.stop && choices.stop());
    // A fork is made when its turn comes: its state takes memory.
    while (!stopped && std::ssize(drawn) < choices.best_of && batcher.running() + batcher.waiting() < kSideBySide) {
      const int64_t i = std::ssize(drawn);
      Choice& choice = drawn.emplace_back();
      choice.candidate = i;
      choice.seed = options.sampling.seed + static_cast<uint64_t>(i);
      choice.id = batcher.Add(Request(from, options, choices, choice));
    }
    for (const Choice& choice : drawn) {
      if (stopped) batcher.Cancel(choice.id);
    }
    more = batcher.Step() || (!stopped && std::ssize(drawn) < choices.best_of);
    KeepBestStates(drawn, choices.n);
  }
  Choices out{.seconds = NowSeconds() - start, .selection = batcher.selection()};
  for (const Choice& choice : drawn) out.generated_tokens += choice.result.generated_tokens;
  std::stable_sort(drawn.begin(), drawn.end(), Better);
  drawn.resize(std::min(drawn.size(), static_cast<size_t>(choices.n)));
  out.best.assign(std::make_move_iterator(drawn.begin()), std::make_move_iterator(drawn.end()));
  return out;
}

}  // namespace taipan
