// taipan score: log-probabilities of token sequences or of a text.

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/score_internal.h"
#include "cli/token_lines.h"
#include "model/memory_plan.h"

namespace taipan {
namespace {

void ScoreSequences(const LanguageModel& model, const ScoreFlags& flags) {
  const auto sequences = ParseTokenLines(ReadInput(flags.tokens), model.config().vocab_size, InputName(flags.tokens));
  size_t longest = 0;
  for (const std::vector<int32_t>& sequence : sequences) longest = std::max(longest, sequence.size());
  NoteLongContext(model.config(), static_cast<int64_t>(longest), "a sequence has");
  LogitsFile logits(flags.logits, model.config().vocab_size);
  PositionLoss by_position;
  std::vector<std::vector<std::string>> rows;
  for (size_t index = 0; index < sequences.size(); ++index) {
    OrderedJson logprobs = OrderedJson::array({nullptr});
    ScoreOptions options;
    options.on_logprobs = [&](int64_t first, std::span<const float> part) {
      if (flags.by_position) by_position.Add(first, part);
      if (!flags.json) return;
      for (const float p : part) logprobs.push_back(static_cast<double>(p));
    };
    logits.Begin(static_cast<int64_t>(sequences[index].size()));
    logits.AddTo(options);
    const ScoreResult result = ScoreTokens(model, sequences[index], options);
    const double mean = result.mean_logprob();  // NaN for one token
    if (flags.json) {
      PrintJson({{"index", index},
                 {"tokens", result.tokens},
                 {"sum_logprob", result.sum_logprob},
                 {"mean_logprob", NullUnlessFinite(mean)},
                 {"logprobs", std::move(logprobs)}});
      if (flags.logits.empty() && flags.svg.empty()) FlushOutput();
      continue;
    }
    rows.push_back({std::to_string(index), std::to_string(result.tokens), fmt::format("{:.6f}", result.sum_logprob),
                    result.scored > 0 ? fmt::format("{:.6f}", mean) : "-",
                    result.scored > 0 ? fmt::format("{:.4f}", std::exp(-mean)) : "-"});
  }
  logits.Write();
  if (!flags.svg.empty()) by_position.WriteSvg(flags.svg);
  if (flags.json) {
    if (flags.by_position) PrintJson({{"by_position", by_position.Json()}});
    return;
  }
  Print(FormatTable({{"index"}, {"tokens"}, {"sum logprob"}, {"mean logprob"}, {"perplexity"}}, rows));
  if (flags.by_position) Print("\n" + by_position.Table());
}

// What does not go together; fills in the stride.
void CheckFlags(ScoreFlags& flags) {
  const int inputs = !flags.text.empty() + !flags.tokens.empty() + !flags.pairs.empty();
  if (inputs != 1) throw CLI::RequiredError("score: one of --text, --tokens and --pairs");
  auto only = [](bool given, const char* flag, bool allowed, const char* with) {
    if (given && !allowed) throw CLI::ValidationError(flag, fmt::format("goes with {}", with));
  };
  if (!flags.svg.empty()) flags.by_position = true;
  only(flags.context > 0, "--context", flags.tokens.empty(), "--text or --pairs");
  only(flags.stride > 0, "--stride", !flags.text.empty() && flags.context > 0, "--text and --context");
  only(!flags.logits.empty(), "--logits", flags.pairs.empty() && flags.context == 0,
       "--tokens, or --text without --context");
  only(flags.by_position, "--by-position", flags.pairs.empty(), "--text or --tokens");
  only(flags.recall_hits, "--recall-hits", !flags.text.empty(), "--text");
  if (flags.stride > flags.context) {
    throw CLI::ValidationError("--stride", fmt::format("at most --context ({}), not {}", flags.context, flags.stride));
  }
  if (flags.context > 0 && flags.stride == 0) flags.stride = flags.context - flags.context / 2;
}

void RunScore(ScoreFlags flags) {
  CheckFlags(flags);
  for (const std::string& input : {flags.text, flags.tokens, flags.pairs}) {
    if (!input.empty() && input != "-") CheckCanRead(input);
  }
  for (const std::string& output : {flags.logits, flags.svg}) {
    if (!output.empty()) CheckCanWrite(output);
  }
  // Numbers that others compare digit by digit stay exact.
  const bool exact = !flags.pairs.empty() || !flags.tokens.empty() || !flags.logits.empty();
  std::unique_ptr<Tokenizer> tokenizer;
  const LanguageModel model = [&] {
    const Checkpoint checkpoint = OpenModel(flags.model);
    const ComputeType dtype = flags.dtype == ComputeType::kAuto && exact ? ComputeType::kF32 : flags.dtype;
    const auto require_tokenizer = [&] { tokenizer = RequireText(checkpoint, flags.tokenizer).tokenizer; };
    if (!flags.text.empty() && flags.context == 0 && KeepsAllKeys(checkpoint.config)) {
      require_tokenizer();
      RequireRunMemory(checkpoint, {dtype, flags.kv_dtype}, CountTextTokens(*tokenizer, flags.text), flags.text);
    }
    LanguageModel loaded = LoadToRun(checkpoint, dtype);
    if (flags.tokens.empty() && tokenizer == nullptr) require_tokenizer();
    UseBudgetIfGiven(loaded, checkpoint, flags.budget);
    UseKvDType(loaded, flags.kv_dtype);
    return loaded;
  }();
  if (!flags.text.empty()) {
    ScoreText(model, *tokenizer, flags);
  } else if (!flags.pairs.empty()) {
    ScorePairs(model, *tokenizer, flags);
  } else {
    ScoreSequences(model, flags);
  }
}

}  // namespace

void AddScoreCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("score", "Log-probabilities of a text, of token sequences or of continuations");
  auto flags = std::make_shared<ScoreFlags>();
  AddModelFlag(*command, "-m,--model", flags->model);
  AddTokenizerFlag(*command, flags->tokenizer);
  CLI::Option* dtype = AddDTypeFlag(*command, flags->dtype);
  AddKvDTypeFlag(*command, flags->kv_dtype);
  AddBudgetFlag(*command, flags->budget);
  dtype->description(dtype->get_description() + "; with --pairs, --tokens and --logits f32");
  command->add_option("--text", flags->text, "A text file, - for standard input")->type_name("FILE");
  command->add_option("--tokens", flags->tokens, "One JSON array of token ids a line, - for standard input")
      ->type_name("FILE.jsonl");
  command
      ->add_option("--pairs", flags->pairs,
                   "One {\"context\", \"continuation\"} a line, - for standard input: log p of the continuation and "
                   "whether it is the greedy one, with lm-evaluation-harness's token boundaries")
      ->type_name("FILE.jsonl");
  command
      ->add_option("--context", flags->context,
                   "With --text: score in windows of this many tokens, each from a fresh state (default: the text as "
                   "one document). With --pairs: drop what lies further back")
      ->type_name("N")
      ->check(WholeNumber(1, kMostTokens));
  command->add_option("--stride", flags->stride, "Tokens from one window to the next (default: half of --context)")
      ->type_name("N")
      ->check(WholeNumber(1, kMostTokens));
  command->add_flag("--by-position", flags->by_position, "Also the mean loss by the number of tokens before");
  command->add_flag(
      "--recall-hits", flags->recall_hits,
      "Also the loss of tokens that complete a bigram of further back in their context, and of all others");
  command->add_option("--svg", flags->svg, "Draw the loss by position")->type_name("FILE");
  command
      ->add_option(
          "--logits", flags->logits,
          "Write the logits [tokens, vocabulary], f32, as tensors \"0\", \"1\", ...; held in memory until then")
      ->type_name("OUT.safetensors");
  AddJsonFlag(*command, flags->json);
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([flags] { RunScore(*flags); });
}

}  // namespace taipan
