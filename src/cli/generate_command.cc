// taipan generate: text from a model, streamed as it is drawn.

#include <exception>

#include "base/error.h"
#include "base/file_checks.h"
#include "base/signals.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/generate_choices.h"
#include "cli/generate_prompt.h"
#include "cli/generate_report.h"
#include "cli/loss_file.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "cli/sampling_flags.h"
#include "cli/text_output.h"
#include "cli/token_lines.h"
#include "infer/generator.h"
#include "infer/state_io.h"
#include "model/memory_plan.h"

namespace taipan {
namespace {

struct GenerateFlags {
  std::string tokenizer, save_state, load_state, loss;
  int64_t loss_every = 1000, save_every = 0;  // tokens
  bool forget_tokens = false;
  PromptFlags prompt;
  ComputeType dtype = ComputeType::kAuto;
  KvType kv_dtype = KvType::kAuto;
  std::vector<std::string> stop;
  int64_t max_tokens = 256;
  SamplingFlags sampling;
  ChoiceFlags choices;
  DraftOptions draft;
  std::optional<int64_t> logprobs;
  std::optional<double> budget;
  bool show_special = false;
  bool json = false;
};

struct Loaded {
  LanguageModel model;
  ModelText text;
};

Loaded LoadToGenerate(const GenerateFlags& flags) {
  const Checkpoint checkpoint = OpenModel(flags.prompt.model);
  std::optional<ModelText> text;
  if (KeepsAllKeys(checkpoint.config)) {
    text = RequireText(checkpoint, flags.tokenizer);
    const std::string where = flags.prompt.prompt_file.empty() ? "the prompt" : InputName(flags.prompt.prompt_file);
    RequireRunMemory(checkpoint, {flags.dtype, flags.kv_dtype}, CountPromptTokens(flags.prompt, *text->tokenizer),
                     where);
  }
  LanguageModel model = LoadToRun(checkpoint, flags.dtype);
  if (!text) text = RequireText(checkpoint, flags.tokenizer);
  UseBudgetIfGiven(model, checkpoint, flags.budget);
  UseKvDType(model, flags.kv_dtype);
  CheckLogitBias(flags.sampling.options, text->tokenizer->vocab_size());
  for (const std::string& stop : flags.stop) {  // its text would not be seen
    const std::optional<int32_t> id = text->tokenizer->TokenId(stop);
    if (id && text->tokenizer->IsAdded(*id)) text->stop_tokens.push_back(*id);
  }
  return {std::move(model), std::move(*text)};
}

// What there was before this call. Returns its last token where the file has it.
std::optional<int32_t> RestoreState(const GenerateFlags& flags, Generator& generator) {
  if (flags.load_state.empty()) return std::nullopt;
  SequenceSnapshot snapshot = LoadSequence(generator.model(), flags.load_state);
  const std::optional<int32_t> last = snapshot.tokens.empty() ? std::nullopt : std::optional(snapshot.tokens.back());
  generator.Continue(std::move(snapshot));
  return last;
}

GenerationOptions OptionsOf(const GenerateFlags& flags, const ModelText& text) {
  GenerationOptions options{.sampling = flags.sampling.options,
                            .max_tokens = flags.max_tokens,
                            .stop_tokens = text.stop_tokens,
                            .vocab_limit = text.tokenizer->vocab_size()};
  options.top_logprobs = flags.logprobs.value_or(0);
  options.draft = flags.draft;
  return options;
}

// One text, shown as it is drawn.
void WriteAnswer(const GenerateFlags& flags, const ModelText& text, std::optional<int32_t> after, Generator& generator,
                 Outcome& outcome) {
  WrittenText& written = outcome.texts.emplace_back();
  GenerationOptions options = OptionsOf(flags, text);
  if (flags.logprobs) options.on_logprobs = [&](const TokenLogprobs& of) { written.logprobs.push_back(of); };
  TextOutput output(*text.tokenizer, after,
                    {.show = !flags.json, .keep = flags.json, .show_special = flags.show_special, .stop = flags.stop});
  outcome.stats = generator.Generate(options, [&](int32_t token) {
    return output.Add(token) && (flags.json || OutputWorks());  // nobody reads on where standard output is closed
  });
  output.Finish(outcome.stats.stop_token);
  if (output.stopped()) outcome.stats.stop_reason = StopReason::kStopText;
  outcome.position = generator.state().position;
  written.text = output.text();
  written.tokens = output.tokens();
}

// Loss and state while a long prompt is read.
class PromptRecord {
 public:
  PromptRecord(const GenerateFlags& flags, Generator& generator) : flags_(flags), generator_(generator) {
    saved_ = generator.state().position;
    if (flags.loss.empty()) return;
    loss_.emplace(flags.loss, flags.loss_every, saved_);
    generator.OnLogprobs([this](int64_t first, std::span<const float> part) { loss_->Add(first, part); });
  }

  void OnProgress() {
    if (flags_.save_every > 0 && generator_.state().position - saved_ >= flags_.save_every) Save();
  }
  // The end of the prompt, or of the run.
  void Finish() {
    if (loss_) loss_->Flush(generator_.state().position);
    generator_.OnLogprobs(nullptr);
  }

 private:
  void Save() {
    saved_ = generator_.state().position;
    if (loss_) loss_->Flush(saved_);
    SaveSequence(generator_.model(), generator_.Snapshot(), flags_.save_state);
  }

  const GenerateFlags& flags_;
  Generator& generator_;
  std::optional<LossFile> loss_;
  int64_t saved_ = 0;
};

// Reads the prompt and writes on. Whatever ends it, the generator has read what was shown.
void Write(const GenerateFlags& flags, ModelText& text, std::optional<int32_t> last, Generator& generator,
           const std::function<void()>& note_signals, Outcome& outcome) {
  const int64_t before = generator.state().position;
  PromptRecord record(flags, generator);
  PromptFlags prompt = flags.prompt;
  prompt.on_progress = [&] { record.OnProgress(); };
  const std::optional<int32_t> of_prompt = ReadPrompt(prompt, text, generator, note_signals);
  record.Finish();
  if (generator.state().position > before) last = of_prompt;
  NoteLongContext(generator.model().config(), generator.state().position + flags.max_tokens,
                  "prompt and --max-tokens make");
  if (flags.sampling.show_seed) Note(fmt::format("seed {}", flags.sampling.options.seed));
  if (!flags.choices.several()) return WriteAnswer(flags, text, last, generator, outcome);
  WriteChoices(flags.choices, OptionsOf(flags, text),
               {.tokenizer = *text.tokenizer,
                .after = last,
                .stop = flags.stop,
                .show_special = flags.show_special,
                .json = flags.json,
                .logprobs = flags.logprobs.has_value()},
               !flags.save_state.empty(), generator, outcome);
}

// Returns the exit code.
int RunGenerate(const GenerateFlags& flags) {
  const std::string& file = flags.prompt.prompt_file;
  CheckChoiceFlags(flags.choices, flags.sampling.options, !flags.save_state.empty());
  if (flags.draft.match > 0 && flags.choices.several()) {
    throw UserError({"--draft", "several texts are drawn side by side, without guesses", "--n 1 and --best-of 1",
                     fmt::format("{} texts", flags.choices.candidates())});
  }
  if (!file.empty() && file != "-") CheckCanRead(file);
  if (!flags.save_state.empty()) CheckCanWrite(flags.save_state);
  if (!flags.loss.empty()) CheckCanWrite(flags.loss);
  Loaded loaded = LoadToGenerate(flags);
  Generator generator(loaded.model);
  const bool for_state = !flags.save_state.empty() && !flags.forget_tokens;
  if (for_state || flags.sampling.options.penalizes() || flags.draft.match > 0) generator.KeepTokens();
  const std::optional<int32_t> last = RestoreState(flags, generator);
  Outcome outcome;
  outcome.restored = generator.state().position;
  outcome.dtype = ComputesIn(loaded.model);
  outcome.drafts = flags.draft.match > 0;
  if (flags.sampling.options.temperature > 0) outcome.seed = flags.sampling.options.seed;
  std::optional<NoteStopSignals> signals;
  generator.StopWhen([] { return StopSignal() != 0; });
  Write(
      flags, loaded.text, last, generator, [&] { signals.emplace(); }, outcome);
  std::exception_ptr failure;  // what was written is reported nevertheless
  try {
    if (!flags.save_state.empty()) SaveSequence(loaded.model, generator.Snapshot(), flags.save_state);
  } catch (...) {
    failure = std::current_exception();
  }
  if (flags.json) {
    PrintJson(ToJson(outcome, flags.logprobs.has_value()));
  } else {
    Note(ReportLine(outcome));
  }
  if (failure) std::rethrow_exception(failure);
  return StopSignal() != 0 ? 128 + StopSignal() : 0;
}

void AddPromptFlags(CLI::App& command, PromptFlags& flags) {
  CLI::Option* prompt =
      command.add_option("-p,--prompt", flags.prompt, "Text to continue; empty: start from BOS, else from a line feed");
  command.add_option("--prompt-file", flags.prompt_file, "The same from a file of any length, - for standard input")
      ->type_name("FILE")
      ->excludes(prompt);
  CLI::Option* chat = command.add_flag(
      "--chat", flags.chat, "The prompt is a message to the model: put it into the chat template of the model's files");
  command.add_option("--system", flags.system, "With --chat: a system message before it")
      ->type_name("TEXT")
      ->needs(chat);
  command
      .add_flag("--parse-special", flags.parse_special, "Read the text of special tokens in --prompt as these tokens")
      ->excludes(chat);
}

void AddStateFlags(CLI::App& command, GenerateFlags& flags) {
  command
      .add_option("--load-state", flags.load_state,
                  "Go on after the text whose state is in this file; a prompt is then more of that text, and optional")
      ->type_name("FILE")
      ->excludes("--chat");
  command
      .add_option("--save-state", flags.save_state,
                  "Keep the state after the last token, to go on from there; also after Ctrl-C")
      ->type_name("FILE");
  command.add_option("--save-every", flags.save_every, "While --prompt-file is read: also after every N tokens, about")
      ->type_name("N")
      ->check(WholeNumber(1, kMostTokens))
      ->needs("--save-state", "--prompt-file");
  command
      .add_flag("--forget-tokens", flags.forget_tokens,
                "The state does not list the tokens read, which are 4 bytes each; penalties do not know of them later")
      ->needs("--save-state");
  command
      .add_flag("--resume", flags.prompt.resume,
                "--prompt-file is the text that the state of --load-state has read in part: go on behind that part")
      ->needs("--load-state", "--prompt-file");
  command
      .add_option("--loss", flags.loss,
                  "While the prompt is read: write the loss by position, as rows of CSV or, under a name that ends in "
                  ".jsonl, JSON; with --resume rows of earlier runs stay")
      ->type_name("FILE");
  command.add_option("--loss-every", flags.loss_every, "Tokens of a row")
      ->check(WholeNumber(1, kMostTokens))
      ->capture_default_str();
}

// "none", "prompt-lookup", "prompt-lookup:N".
void AddDraftFlag(CLI::App& command, DraftOptions& draft) {
  static const std::string kName = "prompt-lookup";
  constexpr int64_t kMatch = 3;
  command
      .add_option_function<std::string>(
          "--draft",
          [&draft](const std::string& text) {
            draft.match = text == "none" ? 0 : text == kName ? kMatch : std::stoll(text.substr(kName.size() + 1));
          },
          fmt::format(
              "Guess what followed where the last N tokens ({}) stood before, and read the guesses together: the "
              "same tokens in less time where a text repeats itself",
              kMatch))
      ->type_name("none|prompt-lookup[:N]")
      ->default_str("none")
      ->check([](const std::string& text) -> std::string {
        if (text == "none" || text == kName) return "";
        if (!text.starts_with(kName + ":")) return "expected none, prompt-lookup or prompt-lookup:N, found " + text;
        std::string number = text.substr(kName.size() + 1);
        return WholeNumber(1, kMostMatch)(number);
      });
}

}  // namespace

void AddGenerateCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("generate", "Generate text, streamed to standard output");
  auto flags = std::make_shared<GenerateFlags>();
  AddModelFlag(*command, "-m,--model", flags->prompt.model);
  AddTokenizerFlag(*command, flags->tokenizer);
  AddDTypeFlag(*command, flags->dtype);
  AddKvDTypeFlag(*command, flags->kv_dtype);
  AddBudgetFlag(*command, flags->budget);
  AddPromptFlags(*command, flags->prompt);
  AddStateFlags(*command, *flags);
  command
      ->add_option("--stop", flags->stop,
                   "End where the model writes this text, which is not shown (repeatable); the ends of texts and turns "
                   "that its files name end it anyway")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->check([](const std::string& text) { return std::string(text.empty() ? "the text is empty" : ""); });
  command->add_flag("--show-special", flags->show_special, "Show special tokens, such as the one that ends the text");
  command->add_option("--max-tokens", flags->max_tokens, "Tokens to generate at most")
      ->check(WholeNumber(0, kMostTokens))
      ->capture_default_str();
  AddSamplingFlags(*command, flags->sampling);
  AddChoiceFlags(*command, flags->choices);
  AddDraftFlag(*command, flags->draft);
  AddJsonFlag(*command, flags->json);
  command
      ->add_option(
          "--logprobs", flags->logprobs,
          "With --json: log-probabilities of each token and of the K most likely ones there, by the model's own "
          "distribution")
      ->type_name("K")
      ->check(WholeNumber(0, 1000))
      ->needs("--json");
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([command, flags, &exit_code] {
    FinishSamplingFlags(*command, flags->sampling);
    exit_code = RunGenerate(*flags);
  });
}

}  // namespace taipan
