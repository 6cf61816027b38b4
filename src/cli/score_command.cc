// taipan score: log-probabilities of token sequences or of a text.

#include <cmath>
#include <cstring>
#include <numbers>

#include "base/cpu.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "cli/token_lines.h"
#include "formats/safetensors.h"
#include "infer/scoring.h"

namespace taipan {
namespace {

struct ScoreFlags {
  std::string model, dtype = "f32", text, tokens, logits;
  bool json = false;
};

// Logits of all sequences until they are written: safetensors wants the sizes first.
class LogitsFile {
 public:
  LogitsFile(std::string path, int64_t vocab) : path_(std::move(path)), vocab_(vocab) {}

  void Begin(int64_t tokens) {
    if (!path_.empty()) tensors_.push_back(Tensor({tokens, vocab_}));
  }
  void AddTo(ScoreOptions& options) {
    if (path_.empty()) return;
    options.on_logits = [this](int64_t first, ConstMatrixView part) {
      CopyMatrix(part, tensors_.back().Matrix().Rows(first, part.rows));
    };
  }
  void Write() const {
    if (path_.empty()) return;
    std::vector<SafetensorsItem> items;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      items.push_back({std::to_string(i), DType::kF32, tensors_[i].shape(), tensors_[i].data()});
    }
    WriteSafetensors(path_, items);
  }

 private:
  std::string path_;
  int64_t vocab_;
  std::vector<Tensor> tensors_;
};

OrderedJson NullUnlessFinite(double value) { return std::isfinite(value) ? OrderedJson(value) : OrderedJson(nullptr); }

void ScoreSequences(const Model& model, const ScoreFlags& flags) {
  const auto sequences = ParseTokenLines(ReadInput(flags.tokens), model.config().vocab_size, InputName(flags.tokens));
  LogitsFile logits(flags.logits, model.config().vocab_size);
  std::vector<std::vector<std::string>> rows;
  for (size_t index = 0; index < sequences.size(); ++index) {
    OrderedJson logprobs = OrderedJson::array({nullptr});
    ScoreOptions options;
    if (flags.json) {
      options.on_logprobs = [&](int64_t, std::span<const float> part) {
        for (const float p : part) logprobs.push_back(static_cast<double>(p));
      };
    }
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
      continue;
    }
    rows.push_back({std::to_string(index), std::to_string(result.tokens), fmt::format("{:.6f}", result.sum_logprob),
                    result.scored > 0 ? fmt::format("{:.6f}", mean) : "-",
                    result.scored > 0 ? fmt::format("{:.4f}", std::exp(-mean)) : "-"});
  }
  logits.Write();
  if (!flags.json) Print(FormatTable({{"index"}, {"tokens"}, {"sum logprob"}, {"mean logprob"}, {"perplexity"}}, rows));
}

void PrintTextScore(const ScoreResult& result, int64_t bytes, bool json) {
  const double nll = -result.sum_logprob, per_token = -result.mean_logprob();
  const double bits_per_byte = nll / std::numbers::ln2 / static_cast<double>(bytes);
  const double rate = static_cast<double>(result.tokens) / result.seconds;
  if (json) {
    PrintJson({{"tokens", result.tokens},
               {"scored_tokens", result.scored},
               {"bytes", bytes},
               {"nll", nll},
               {"nll_per_token", NullUnlessFinite(per_token)},
               {"bits_per_byte", bits_per_byte},
               {"perplexity", NullUnlessFinite(std::exp(per_token))},
               {"selected_share", result.selected_share},
               {"tokens_per_second", rate},
               {"seconds", result.seconds},
               {"peak_rss_bytes", PeakResidentBytes()}});
    return;
  }
  std::vector<std::vector<std::string>> rows = {
      {"tokens", fmt::format("{} ({} scored: the first has nothing before it)", FormatExact(result.tokens),
                             FormatExact(result.scored))},
      {"bytes", FormatExact(bytes)},
      {"negative log-likelihood", fmt::format("{:.4f} nats", nll)},
      {"  a scored token", result.scored > 0 ? fmt::format("{:.6f} nats", per_token) : "-"},
      {"bits per byte", fmt::format("{:.6f}", bits_per_byte)}};
  if (!result.selected_share.empty()) rows.push_back({"selected share", FormatShares(result.selected_share)});
  std::string text;
  for (const auto& row : rows) text += fmt::format("{:<25}{}\n", row[0], row[1]);
  Print(text);
  Note(fmt::format("{:.1f} s, {:.0f} tokens/s", result.seconds, rate));
}

void ScoreText(const Model& model, const ScoreFlags& flags) {
  const auto tokenizer = RequireTokenizer(flags.model, model.config());
  std::vector<int32_t> tokens;
  int64_t bytes = 0;
  {
    const std::string text = ReadInput(flags.text);
    bytes = static_cast<int64_t>(text.size());
    tokens = tokenizer->Encode(text);
  }
  if (tokens.empty()) throw UserError({InputName(flags.text), "nothing to score", "some text", "an empty file", ""});
  LogitsFile logits(flags.logits, model.config().vocab_size);
  logits.Begin(static_cast<int64_t>(tokens.size()));
  ScoreOptions options;
  logits.AddTo(options);
  CountProgress progress("scoring:", static_cast<int64_t>(tokens.size()));
  options.on_progress = [&](int64_t done) { progress.Update(done); };
  const ScoreResult result = ScoreTokens(model, tokens, options);
  progress.Finish();
  logits.Write();
  PrintTextScore(result, bytes, flags.json);
}

void RunScore(const ScoreFlags& flags) {
  Model model = LoadModelDirectory(flags.model);
  if (flags.dtype == "bf16") model.SetDType(DType::kBF16);
  if (flags.tokens.empty()) {
    ScoreText(model, flags);
  } else {
    ScoreSequences(model, flags);
  }
}

}  // namespace

void AddScoreCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("score", "Log-probabilities of a text or of token sequences");
  auto flags = std::make_shared<ScoreFlags>();
  command->add_option("--model", flags->model, "Model directory")->type_name("DIR")->required();
  command->add_option("--dtype", flags->dtype, "Of activations and matrix products; sums and states are f32")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  CLI::Option* text =
      command->add_option("--text", flags->text, "A text file, - for standard input")->type_name("FILE");
  command->add_option("--tokens", flags->tokens, "One JSON array of token ids a line, - for standard input")
      ->type_name("FILE.jsonl")
      ->excludes(text);
  command
      ->add_option(
          "--logits", flags->logits,
          "Write the logits [tokens, vocabulary], f32, as tensors \"0\", \"1\", ...; held in memory until then")
      ->type_name("OUT.safetensors");
  AddJsonFlag(*command, flags->json);
  AddThreadsFlag(*command);
  command->callback([flags] {
    if (flags->text.empty() == flags->tokens.empty()) throw CLI::RequiredError("score: one of --text and --tokens");
    RunScore(*flags);
  });
}

}  // namespace taipan
