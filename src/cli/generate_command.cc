// taipan generate: text from a model, streamed as it is drawn.

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <random>

#include "base/cpu.h"
#include "base/error.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "cli/token_lines.h"
#include "infer/chat.h"
#include "infer/generator.h"
#include "infer/stop_text.h"

namespace taipan {
namespace {

struct GenerateFlags {
  std::string model, tokenizer, prompt, prompt_file, system;
  ComputeType dtype = ComputeType::kAuto;
  std::vector<std::string> stop;
  int64_t max_tokens = 256;
  SamplingOptions sampling;
  std::optional<double> budget;
  bool chat = false, parse_special = false, show_special = false;
  bool show_seed = false;
  bool json = false;
};

// Feeds a text to the generator. Returns its last token, after which the text goes on.
std::optional<int32_t> ReadTokens(const std::vector<int32_t>& tokens, Generator& generator) {
  generator.Read(tokens);
  return tokens.empty() ? std::nullopt : std::optional(tokens.back());
}

// Feeds a file to the generator. Bytes can be cut anywhere, so their file is read in slices and never held whole; other
// tokenizers need the whole text.
std::optional<int32_t> ReadPromptFile(const std::string& path, const Tokenizer& tokenizer, Generator& generator) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) throw UserError(path, fmt::format("cannot be read: {}", std::strerror(errno)));
  }
  std::istream& in = path == "-" ? std::cin : file;
  if (dynamic_cast<const ByteTokenizer*>(&tokenizer) == nullptr) {
    return ReadTokens(EncodeText(tokenizer, std::string(std::istreambuf_iterator<char>(in), {})), generator);
  }
  CountProgress progress("prompt:", 0);
  int64_t done = 0;
  std::string slice(static_cast<size_t>(16 * generator.piece()), '\0');  // ends on the grid of pieces
  while (in.read(slice.data(), static_cast<std::streamsize>(slice.size())) || in.gcount() > 0) {
    const auto bytes = std::string_view(slice).substr(0, static_cast<size_t>(in.gcount()));
    generator.Read(tokenizer.Encode(bytes), [&](int64_t read) { progress.Update(done + read); });
    done += in.gcount();
  }
  if (in.bad()) throw UserError(path, fmt::format("cannot be read: {}", std::strerror(errno)));
  progress.Finish();
  return std::nullopt;
}

// A model needs a token to go on from.
void ReadStartToken(const Tokenizer& tokenizer, Generator& generator) {
  if (const auto bos = tokenizer.bos()) {
    Note(fmt::format("empty prompt: starting from the token {} (BOS)", *bos));
    generator.Read({&*bos, 1});
    return;
  }
  Note("empty prompt: starting from a line feed");
  generator.Read(tokenizer.Encode("\n"));
}

// The prompt as a message of a user, in the words that the model was trained to answer.
ChatPrompt ReadMessages(const GenerateFlags& flags, const ModelText& text) {
  std::vector<ChatMessage> messages;
  if (!flags.system.empty()) messages.push_back({"system", flags.system});
  const std::string prompt = flags.prompt_file.empty() ? flags.prompt : ReadInput(flags.prompt_file);
  messages.push_back({"user", prompt});
  return EncodeChat(flags.model, text, messages);
}

// Returns the token after which the output goes on as the same text: an answer is a text of its own. With --chat the
// template's end of an answer is added to the stop tokens.
std::optional<int32_t> ReadPrompt(const GenerateFlags& flags, ModelText& text, Generator& generator) {
  const Tokenizer& tokenizer = *text.tokenizer;
  std::optional<int32_t> last;
  if (flags.chat) {
    const ChatPrompt chat = ReadMessages(flags, text);
    NoteDoubledBos(tokenizer, chat.tokens);
    generator.Read(chat.tokens);
    text.stop_tokens.insert(text.stop_tokens.end(), chat.stop_tokens.begin(), chat.stop_tokens.end());
  } else if (!flags.prompt_file.empty()) {
    last = ReadPromptFile(flags.prompt_file, tokenizer, generator);
  } else {
    const EncodeOptions options{.add_special_tokens = true, .parse_special = flags.parse_special};
    const std::vector<int32_t> tokens = tokenizer.Encode(flags.prompt, options);
    NoteDoubledBos(tokenizer, tokens);
    last = ReadTokens(tokens, generator);
  }
  if (generator.state().position == 0) ReadStartToken(tokenizer, generator);
  return last;
}

// Shows text as soon as whole characters are there and no stop text can begin in it, or keeps it for JSON.
class TextOutput {
 public:
  // after: a token of the same text that was shown before, such as the prompt's last.
  TextOutput(const Tokenizer& tokenizer, std::optional<int32_t> after, const GenerateFlags& flags)
      : keep_(flags.json),
        show_special_(flags.show_special),
        tokenizer_(tokenizer),
        stream_(tokenizer),
        stop_(flags.stop) {
    if (after) stream_.Append(*after);
  }

  // False once a stop text was found.
  bool Add(int32_t token) {
    ShowToken(token);
    if (keep_) tokens_.push_back(token);
    return !stop_.found();
  }
  bool stopped() const { return stop_.found(); }
  // stop_token: the one that ended the text; it is shown where special tokens are.
  void Finish(std::optional<int32_t> stop_token) {
    if (stop_token && show_special_) ShowToken(*stop_token);
    Show(stop_.Append(stream_.Flush()));
    Show(stop_.Flush());
    if (keep_) return;
    if (isatty(STDOUT_FILENO) != 0) {
      Show("\n");
    } else if (last_ != '\n' && OneFile()) {
      Note("");  // what follows on standard error begins a line of its own
    }
  }
  const std::string& text() const { return text_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }

 private:
  void ShowToken(int32_t token) {
    if (show_special_ || !tokenizer_.IsSpecial(token)) Show(stop_.Append(stream_.Append(token)));
  }
  void Show(const std::string& piece) {
    if (keep_) {
      text_ += piece;
    } else if (!piece.empty()) {
      last_ = piece.back();
      Print(piece);
      OutputWorks();  // shown at once, and before what goes to standard error
    }
  }

  // Whether standard output and standard error end up in one file or pipe.
  static bool OneFile() {
    struct stat out, err;
    return ::fstat(STDOUT_FILENO, &out) == 0 && ::fstat(STDERR_FILENO, &err) == 0 && out.st_dev == err.st_dev &&
           out.st_ino == err.st_ino;
  }

  const bool keep_, show_special_;
  const Tokenizer& tokenizer_;
  char last_ = '\n';  // shown
  DecodeStream stream_;
  StopText stop_;
  std::string text_;
  std::vector<int32_t> tokens_;
};

void Report(const GenerationStats& stats, const GenerateFlags& flags, const std::string& dtype,
            const TextOutput& output) {
  if (flags.json) {
    OrderedJson json = {{"text", output.text()},
                        {"tokens", output.tokens()},
                        {"prompt_tokens", stats.prompt_tokens},
                        {"generated_tokens", stats.generated_tokens},
                        {"stop_reason", NameOf(stats.stop_reason)},
                        {"prompt_tokens_per_second", stats.prompt_tokens_per_second()},
                        {"tokens_per_second", stats.generated_tokens_per_second()},
                        {"dtype", dtype},
                        {"selected_share", stats.selected_share},
                        {"peak_rss_bytes", PeakResidentBytes()}};
    json["seed"] = flags.sampling.temperature > 0 ? OrderedJson(flags.sampling.seed) : OrderedJson(nullptr);
    PrintJson(json);
    return;
  }
  std::string line = fmt::format("prompt {} tokens, {:.1f} tokens/s; generated {} tokens, {:.1f} tokens/s",
                                 FormatExact(stats.prompt_tokens), stats.prompt_tokens_per_second(),
                                 FormatExact(stats.generated_tokens), stats.generated_tokens_per_second());
  line += "; " + dtype;
  if (!stats.selected_share.empty()) line += "; selected share " + FormatShares(stats.selected_share);
  if (stats.stop_reason == StopReason::kStopToken) line += "; end of text";
  if (stats.stop_reason == StopReason::kStopText) line += "; stop text";
  Note(line);
}

void RunGenerate(const GenerateFlags& flags) {
  if (!flags.prompt_file.empty() && flags.prompt_file != "-") CheckCanRead(flags.prompt_file);
  ModelText text;
  const LanguageModel model = [&] {
    const Checkpoint checkpoint = OpenModel(flags.model);
    LanguageModel loaded = LoadToRun(checkpoint, flags.dtype);
    UseBudgetIfGiven(loaded, checkpoint, flags.budget);
    text = RequireText(checkpoint, flags.tokenizer);
    return loaded;
  }();
  Generator generator(model);
  const std::optional<int32_t> last = ReadPrompt(flags, text, generator);
  NoteLongContext(model.config(), generator.state().position + flags.max_tokens, "prompt and --max-tokens make");
  for (const std::string& stop : flags.stop) {  // its text would not be seen
    const std::optional<int32_t> id = text.tokenizer->TokenId(stop);
    if (id && text.tokenizer->IsAdded(*id)) text.stop_tokens.push_back(*id);
  }
  if (flags.show_seed) Note(fmt::format("seed {}", flags.sampling.seed));
  GenerationOptions options{.sampling = flags.sampling,
                            .max_tokens = flags.max_tokens,
                            .stop_tokens = text.stop_tokens,
                            .vocab_limit = text.tokenizer->vocab_size()};
  TextOutput output(*text.tokenizer, last, flags);
  GenerationStats stats = generator.Generate(options, [&](int32_t token) {
    return output.Add(token) && (flags.json || OutputWorks());  // nobody reads on where standard output is closed
  });
  output.Finish(stats.stop_token);
  if (output.stopped()) stats.stop_reason = StopReason::kStopText;
  Report(stats, flags, ComputesIn(model), output);
}

}  // namespace

void AddGenerateCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Generate text, streamed to standard output");
  auto flags = std::make_shared<GenerateFlags>();
  SamplingOptions& sampling = flags->sampling;
  command->add_option("-m,--model", flags->model, "Model directory or .gguf file")->type_name("MODEL")->required();
  AddTokenizerFlag(*command, flags->tokenizer);
  AddDTypeFlag(*command, flags->dtype);
  AddBudgetFlag(*command, flags->budget);
  CLI::Option* prompt = command->add_option("-p,--prompt", flags->prompt,
                                            "Text to continue; empty: start from BOS, else from a line feed");
  command->add_option("--prompt-file", flags->prompt_file, "The same from a file of any length, - for standard input")
      ->type_name("FILE")
      ->excludes(prompt);
  CLI::Option* chat =
      command->add_flag("--chat", flags->chat,
                        "The prompt is a message to the model: put it into the chat template of the model's files");
  command->add_option("--system", flags->system, "With --chat: a system message before it")
      ->type_name("TEXT")
      ->needs(chat);
  command
      ->add_flag("--parse-special", flags->parse_special, "Read the text of special tokens in --prompt as these tokens")
      ->excludes(chat);
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
  command->add_option("--temperature", sampling.temperature, "Divides the logits; 0: always the most likely token")
      ->check(NumberFromTo(0.0, 1000.0))
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "Draw from the K most likely tokens; 0: from all")
      ->check(WholeNumber(0))
      ->capture_default_str();
  command->add_option("--top-p", sampling.top_p, "Draw from the fewest tokens whose probabilities reach X; 1: from all")
      ->check(NumberFromTo(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--min-p", sampling.min_p, "Leave out tokens less likely than X times the most likely; 0: none")
      ->check(NumberFromTo(0.0, 1.0))
      ->capture_default_str();
  CLI::Option* seed =
      command->add_option("--seed", sampling.seed, "Of the draws (default: random, shown on standard error)")
          ->check(SeedNumber());
  AddJsonFlag(*command, flags->json);
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->footer("The filters apply in this order: temperature, top-k, top-p, min-p.");
  command->callback([command, flags, seed] {
    if (seed->count() == 0) {
      flags->sampling.seed = std::random_device{}();
      flags->show_seed = flags->sampling.temperature > 0;
    }
    const std::string idle = GivenFlags(*command, {"--top-k", "--top-p", "--min-p", "--seed"});
    if (flags->sampling.temperature == 0 && !idle.empty()) {
      Note("without effect: " + idle + ": --temperature 0 takes the most likely token");
    }
    RunGenerate(*flags);
  });
}

}  // namespace taipan
