#include "cli/sampling_flags.h"

#include <charconv>
#include <random>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/output.h"

namespace taipan {
namespace {

constexpr double kMostBias = 1000;

// "" for ID=X.
std::string BiasProblem(const std::string& text) {
  const size_t equals = text.find('=');
  int32_t id = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + std::min(equals, text.size()), id);
  if (equals == text.npos || error != std::errc() || end != text.data() + equals || id < 0) {
    return "expected ID=X with a token id from 0 on, found " + text;
  }
  std::string bias = text.substr(equals + 1);
  return NumberFromTo(-kMostBias, kMostBias)(bias);
}

void AddFilterFlags(CLI::App& command, SamplingOptions& sampling) {
  command.add_option("--temperature", sampling.temperature, "Divides the logits; 0: always the most likely token")
      ->check(NumberFromTo(0.0, 1000.0))
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "Draw from the K most likely tokens; 0: from all")
      ->check(WholeNumber(0))
      ->capture_default_str();
  command.add_option("--top-p", sampling.top_p, "Draw from the fewest tokens whose probabilities reach X; 1: from all")
      ->check(NumberFromTo(0.0, 1.0))
      ->capture_default_str();
  command.add_option("--min-p", sampling.min_p, "Leave out tokens less likely than X times the most likely; 0: none")
      ->check(NumberFromTo(0.0, 1.0))
      ->capture_default_str();
  command
      .add_option("--typical-p", sampling.typical_p,
                  "Draw from the tokens nearest to the mean surprise whose probabilities reach X; 1: from all")
      ->check(NumberFromTo(1e-6, 1.0))
      ->capture_default_str();
}

void AddPenaltyFlags(CLI::App& command, SamplingOptions& sampling) {
  command
      .add_option("--repetition-penalty", sampling.repetition_penalty,
                  "Logits of tokens that were there: divided by X above 0, multiplied below; 1: as they are")
      ->check(NumberFromTo(1e-3, 1000.0))
      ->capture_default_str();
  command
      .add_option("--presence-penalty", sampling.presence_penalty,
                  "Subtracted from the logits of tokens that were there")
      ->check(NumberFromTo(-2.0, 2.0))
      ->capture_default_str();
  command.add_option("--frequency-penalty", sampling.frequency_penalty, "The same, for each time that they were there")
      ->check(NumberFromTo(-2.0, 2.0))
      ->capture_default_str();
  command
      .add_option("--penalty-window", sampling.penalty_window,
                  "Penalties look at the last N tokens, the prompt's included; 0: at all")
      ->check(WholeNumber(0, kMostTokens))
      ->capture_default_str();
  command
      .add_option_function<std::vector<std::string>>(
          "--logit-bias",
          [&sampling](const std::vector<std::string>& given) {
            for (const std::string& text : given) {
              const size_t equals = text.find('=');
              sampling.logit_bias.emplace_back(std::stoi(text.substr(0, equals)), std::stod(text.substr(equals + 1)));
            }
          },
          "Added to the logit of a token (repeatable)")
      ->type_name("ID=X")
      ->allow_extra_args(false)
      ->check(BiasProblem);
}

}  // namespace

void AddSamplingFlags(CLI::App& command, SamplingFlags& flags) {
  AddFilterFlags(command, flags.options);
  AddPenaltyFlags(command, flags.options);
  command.add_option("--seed", flags.options.seed, "Of the draws (default: random, shown on standard error)")
      ->check(SeedNumber());
  command.footer(
      "They apply in this order: bias, penalties, temperature, top-k, top-p, min-p, typical-p. Of equal logits "
      "--temperature 0 takes the one with the lowest id.");
}

void FinishSamplingFlags(const CLI::App& command, SamplingFlags& flags) {
  if (command.count("--seed") == 0) {
    flags.options.seed = std::random_device{}();
    flags.show_seed = flags.options.temperature > 0;
  }
  const std::string idle = GivenFlags(command, {"--top-k", "--top-p", "--min-p", "--typical-p", "--seed"});
  if (flags.options.temperature == 0 && !idle.empty()) {
    Note("without effect: " + idle + ": --temperature 0 takes the most likely token");
  }
  if (command.count("--penalty-window") > 0 && !flags.options.penalizes()) {
    Note("without effect: --penalty-window: no penalty is on");
  }
}

void CheckLogitBias(const SamplingOptions& options, int64_t vocab) {
  for (const auto& [id, bias] : options.logit_bias) {
    if (id < vocab) continue;
    throw UserError({"--logit-bias", "token id outside the model's vocabulary", fmt::format("0 to {}", vocab - 1),
                     std::to_string(id)});
  }
}

}  // namespace taipan
