// taipan score --text: the likelihood of a text, whole or in sliding windows.

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/cpu.h"
#include "base/error.h"
#include "cli/model_argument.h"
#include "cli/score_internal.h"
#include "cli/token_lines.h"
#include "text/recall_hits.h"

namespace taipan {
namespace {

struct TextSize {
  int64_t bytes = 0, words = 0;
};

// Words as Python's split() sees them in ASCII text: runs of anything but white space.
TextSize SizeOfText(std::string_view text) {
  TextSize size{static_cast<int64_t>(text.size()), 0};
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    size.words += !space && !inside;
    inside = !space;
  }
  return size;
}

std::string Perplexity(double nll, int64_t units) {
  return units > 0 ? fmt::format("{:.6f}", std::exp(nll / static_cast<double>(units))) : "-";
}

OrderedJson TextReport(const ScoreResult& result, const TextSize& size, const std::string& dtype,
                       const ScoreFlags& flags) {
  const double nll = -result.sum_logprob, per_token = -result.mean_logprob();
  auto perplexity = [&](int64_t units) { return NullUnlessFinite(std::exp(nll / static_cast<double>(units))); };
  OrderedJson report = {{"tokens", result.tokens},
                        {"scored_tokens", result.scored},
                        {"bytes", size.bytes},
                        {"words", size.words},
                        {"nll", nll},
                        {"nll_per_token", NullUnlessFinite(per_token)},
                        {"bits_per_byte", nll / std::numbers::ln2 / static_cast<double>(size.bytes)},
                        {"perplexity", NullUnlessFinite(std::exp(per_token))},
                        {"word_perplexity", perplexity(size.words)},
                        {"byte_perplexity", perplexity(size.bytes)},
                        {"dtype", dtype},
                        {"selected_share", result.selected_share},
                        {"tokens_per_second", static_cast<double>(result.tokens) / result.seconds},
                        {"seconds", result.seconds},
                        {"peak_rss_bytes", PeakResidentBytes()}};
  if (flags.context > 0) {
    report["context"] = flags.context;
    report["stride"] = flags.stride;
  }
  return report;
}

void PrintTextScore(const ScoreResult& result, const TextSize& size, const ScoreFlags& flags) {
  const double nll = -result.sum_logprob;
  std::vector<std::vector<std::string>> rows = {
      {"tokens", fmt::format("{} ({} scored)", FormatExact(result.tokens), FormatExact(result.scored))},
      {"words, bytes", fmt::format("{}, {}", FormatExact(size.words), FormatExact(size.bytes))},
      {"negative log-likelihood", fmt::format("{:.4f} nats", nll)},
      {"  a scored token", result.scored > 0 ? fmt::format("{:.6f} nats", -result.mean_logprob()) : "-"},
      {"bits per byte", fmt::format("{:.6f}", nll / std::numbers::ln2 / static_cast<double>(size.bytes))},
      {"perplexity, a token", Perplexity(nll, result.scored)},
      {"  a word", Perplexity(nll, size.words)},
      {"  a byte", Perplexity(nll, size.bytes)}};
  if (flags.context > 0) {
    rows.push_back(
        {"windows", fmt::format("{} tokens, {} apart", FormatExact(flags.context), FormatExact(flags.stride))});
  }
  if (!result.selected_share.empty()) rows.push_back({"selected share", FormatShares(result.selected_share)});
  std::string text;
  for (const auto& row : rows) text += fmt::format("{:<25}{}\n", row[0], row[1]);
  Print(text);
}

// Splits the loss of a text by recall hits; a window is a context of its own.
class RecallReport {
 public:
  RecallReport(std::span<const int32_t> tokens, int64_t context, int64_t reach)
      : tokens_(tokens), context_(context), reach_(reach) {}

  // log p of the tokens first, first + 1, ..., whose context begins at `begin`.
  void Add(int64_t begin, int64_t first, std::span<const float> part) {
    if (begin != begin_) {
      const auto rest = tokens_.subspan(static_cast<size_t>(begin));
      const size_t all = rest.size(), size = context_ > 0 ? std::min(all, static_cast<size_t>(context_)) : all;
      hits_ = RecallHits(rest.first(size), reach_);
      begin_ = begin;
    }
    for (size_t i = 0; i < part.size(); ++i) loss_.Add(hits_[static_cast<size_t>(first - begin - 1) + i], part[i]);
  }
  const RecallLoss& loss() const { return loss_; }

 private:
  const std::span<const int32_t> tokens_;
  const int64_t context_, reach_;
  int64_t begin_ = -1;
  std::vector<bool> hits_;
  RecallLoss loss_;
};

OrderedJson RecallJson(const RecallLoss& loss) {
  return {{"share", loss.hit_share()}, {"tokens", loss.hits}, {"nll", loss.hit_ce()}, {"other_nll", loss.other_ce()}};
}

ScoreResult Score(const LanguageModel& model, std::span<const int32_t> tokens, const ScoreFlags& flags,
                  LogitsFile& logits, PositionLoss& by_position, RecallReport& recall) {
  CountProgress progress("scoring:", static_cast<int64_t>(tokens.size()));
  const auto on_progress = [&](int64_t done) { progress.Update(done); };
  ScoreResult result;
  if (flags.context > 0) {
    WindowOptions options{.context = flags.context, .stride = flags.stride, .on_progress = on_progress};
    options.on_logprobs = [&](int64_t begin, int64_t first, std::span<const float> part) {
      if (flags.by_position) by_position.Add(first - begin, part);
      if (flags.recall_hits) recall.Add(begin, first, part);
    };
    result = ScoreWindows(model, tokens, options);
  } else {
    ScoreOptions options;
    options.on_progress = on_progress;
    options.on_logprobs = [&](int64_t first, std::span<const float> part) {
      if (flags.by_position) by_position.Add(first, part);
      if (flags.recall_hits) recall.Add(0, first, part);
    };
    logits.AddTo(options);
    result = ScoreTokens(model, tokens, options);
  }
  progress.Finish();
  return result;
}

}  // namespace

OrderedJson NullUnlessFinite(double value) { return std::isfinite(value) ? OrderedJson(value) : OrderedJson(nullptr); }

void ScoreText(const LanguageModel& model, const Tokenizer& tokenizer, const ScoreFlags& flags) {
  std::vector<int32_t> tokens;
  TextSize size;
  {
    const std::string text = ReadInput(flags.text);
    size = SizeOfText(text);
    tokens = EncodeText(tokenizer, text);
    const size_t added = tokens.size() - tokenizer.Encode(text).size();
    NoteDoubledBos(tokenizer, tokens);
    if (added > 0) Note(fmt::format("the tokenizer adds {} special tokens to the text, as its files say", added));
  }
  if (size.bytes == 0) throw UserError({InputName(flags.text), "nothing to score", "some text", "an empty file"});
  const auto all = static_cast<int64_t>(tokens.size());
  NoteLongContext(model.config(), flags.context > 0 ? std::min(flags.context, all) : all, "a stretch has");
  LogitsFile logits(flags.logits, model.config().vocab_size);
  logits.Begin(static_cast<int64_t>(tokens.size()));
  PositionLoss by_position;
  RecallReport recall(tokens, flags.context, model.config().conv_kernel);
  const ScoreResult result = Score(model, tokens, flags, logits, by_position, recall);
  logits.Write();
  if (!flags.svg.empty()) by_position.WriteSvg(flags.svg);
  if (flags.json) {
    OrderedJson report = TextReport(result, size, ComputesIn(model), flags);
    if (flags.by_position) report["by_position"] = by_position.Json();
    if (flags.recall_hits) report["recall_hits"] = RecallJson(recall.loss());
    PrintJson(report);
    return;
  }
  PrintTextScore(result, size, flags);
  if (flags.recall_hits) {
    const RecallLoss& loss = recall.loss();
    Print(fmt::format("{:<25}{:.6f} nats a token ({:.1f} % of them), others {:.6f}\n", "recall hits", loss.hit_ce(),
                      100 * loss.hit_share(), loss.other_ce()));
  }
  if (flags.by_position) Print(fmt::format("\n{}", by_position.Table()));
  Note(fmt::format("{:.1f} s, {:.0f} tokens/s, {}", result.seconds, static_cast<double>(result.tokens) / result.seconds,
                   ComputesIn(model)));
}

}  // namespace taipan
