#include "cli/generate_choices.h"

#include <map>

#include "base/error.h"
#include "base/signals.h"
#include "cli/flags.h"
#include "cli/text_output.h"

namespace taipan {
namespace {

Choices Draw(const ChoiceFlags& flags, const GenerationOptions& options, const ChoiceOutput& output, bool keep_state,
             const Generator& generator) {
  std::map<int64_t, TextOutput> watched;  // for stop texts
  CountProgress progress("candidates:", flags.candidates() * options.max_tokens);
  int64_t tokens = 0;
  const auto on_token = [&](int64_t candidate, int32_t token) {
    progress.Update(++tokens);
    const TextOutputOptions watch{.show = false, .show_special = output.show_special, .stop = output.stop};
    return watched.try_emplace(candidate, output.tokenizer, output.after, watch).first->second.Add(token);
  };
  Choices drawn = GenerateChoices(generator.model(), generator.Snapshot(), options,
                                  {.n = flags.n,
                                   .best_of = flags.candidates(),
                                   .keep_states = keep_state,
                                   .keep_logprobs = output.logprobs,
                                   .on_token = on_token,
                                   .stop = [] { return StopSignal() != 0; }});
  progress.Finish();
  return drawn;
}

// Shows it, or puts its text into the outcome's JSON.
WrittenText Write(Choice& choice, int64_t number, const ChoiceFlags& flags, const ChoiceOutput& output) {
  WrittenText written{.tokens = std::move(choice.tokens),
                      .logprobs = std::move(choice.logprobs),
                      .candidate = choice.candidate,
                      .seed = choice.seed,
                      .mean_logprob = choice.mean_logprob,
                      .stop_reason = choice.result.reason};
  if (!output.json && flags.n > 1) {
    Note(fmt::format("{} of {}: seed {}, {:.3f} nats a token", number, flags.n, written.seed, -written.mean_logprob));
  }
  TextOutput text(output.tokenizer, output.after,
                  {.show = !output.json,
                   .keep = output.json,
                   .show_special = output.show_special,
                   .end_line = flags.n > 1,
                   .stop = output.stop});
  for (const int32_t token : written.tokens) text.Add(token);
  text.Finish(choice.result.stop_token);
  if (text.stopped()) written.stop_reason = StopReason::kStopText;
  written.text = text.text();
  return written;
}

}  // namespace

void AddChoiceFlags(CLI::App& command, ChoiceFlags& flags) {
  command
      .add_option("--n", flags.n,
                  "Texts to write, side by side; text i of those drawn (from 0) has the seed --seed + i. Shown at the "
                  "end, the most likely first")
      ->type_name("N")
      ->check(WholeNumber(1, kMostCandidates))
      ->capture_default_str();
  command
      .add_option("--best-of", flags.best_of,
                  "Draw M texts and show the N whose tokens have the highest mean log-probability by the model's own "
                  "distribution (default: N)")
      ->type_name("M")
      ->check(WholeNumber(1, kMostCandidates));
}

void CheckChoiceFlags(const ChoiceFlags& flags, const SamplingOptions& sampling, bool save_state) {
  ValidateChoices({.n = flags.n, .best_of = flags.candidates()}, sampling, "--");
  if (save_state && flags.n > 1) {
    throw UserError({"--save-state", "it keeps the state of one text", "--n 1", fmt::format("--n {}", flags.n)});
  }
}

void WriteChoices(const ChoiceFlags& flags, const GenerationOptions& options, const ChoiceOutput& output,
                  bool keep_state, Generator& generator, Outcome& outcome) {
  SelectionCounts selection = generator.selection();
  Choices drawn = Draw(flags, options, output, keep_state, generator);
  outcome.best_of = flags.candidates();
  GenerationStats& stats = outcome.stats;
  stats = generator.PromptStats();
  stats.generated_tokens = drawn.generated_tokens;
  stats.generation_seconds = drawn.seconds;
  selection.Add(drawn.selection);
  stats.selected_share = selection.Shares();
  stats.stop_reason = StopReason::kStopped;
  for (Choice& choice : drawn.best) {
    outcome.texts.push_back(Write(choice, std::ssize(outcome.texts) + 1, flags, output));
  }
  outcome.position = generator.state().position;
  if (drawn.best.empty()) return;
  Choice& best = drawn.best[0];
  stats.stop_reason = outcome.texts[0].stop_reason;
  stats.stop_token = best.result.stop_token;
  outcome.position += best.result.generated_tokens;
  if (best.result.snapshot) generator.Continue(std::move(*best.result.snapshot));
}

}  // namespace taipan
