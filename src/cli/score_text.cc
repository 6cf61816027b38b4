// taipan score --text: the likelihood of a text, whole or in sliding windows.

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "cli/input_bytes.h"
#include "cli/model_argument.h"
#include "cli/score_internal.h"
#include "cli/token_lines.h"
#include "data/file_kind.h"
#include "data/unpack.h"
#include "infer/text_feed.h"
#include "text/recall_hits.h"

namespace taipan {
namespace {

struct TextSize {
  int64_t bytes = 0, words = 0;
};

// Counts a text that comes in pieces. Words as Python's split() sees them in ASCII text: runs of anything but white
// space.
class TextCounter {
 public:
  void Add(std::string_view text) {
    size_.bytes += static_cast<int64_t>(text.size());
    for (const char c : text) {
      const bool space = c == ' ' || (c >= '\t' && c <= '\r');
      size_.words += !space && !inside_;
      inside_ = !space;
    }
  }
  const TextSize& size() const { return size_; }

 private:
  TextSize size_;
  bool inside_ = false;
};

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

namespace {

void NoteAddedTokens(const Tokenizer& tokenizer, std::span<const int32_t> opening) {
  NoteDoubledBos(tokenizer, opening);
  const size_t added = EncodeText(tokenizer, "").size();
  if (added > 0) Note(fmt::format("the tokenizer adds {} special tokens to the text, as its files say", added));
}

void RequireSomeText(const TextSize& size, const ScoreFlags& flags) {
  if (size.bytes == 0) throw UserError({InputName(flags.text), "nothing to score", "some text", "an empty file"});
}

// f(bytes of a text), slice by slice; what is packed is unpacked whole.
void ForEachSlice(const std::string& path, const std::function<void(std::string_view)>& f) {
  constexpr size_t kSlice = kHeadBytes;
  InputBytes input(path);
  std::string slice = input.Next(kSlice);
  if (PackingOf(slice) != Packing::kNone) {
    for (std::string more = input.Next(kSlice); !more.empty(); more = input.Next(kSlice)) slice += more;
  }
  const std::string text = AsText(InputName(path), std::move(slice));
  for (size_t at = 0; at < text.size(); at += kSlice) f(std::string_view(text).substr(at, kSlice));
  for (std::string more = input.Next(kSlice); !more.empty(); more = input.Next(kSlice)) f(more);
}

// The text as one document, of any length: tokenized, read and scored as it comes.
ScoreResult ScoreAsItComes(const LanguageModel& model, const Tokenizer& tokenizer, const ScoreFlags& flags,
                           PositionLoss& by_position, TextSize& size) {
  const double start = NowSeconds();
  ScoreResult result;
  Generator generator(model);
  generator.OnLogprobs([&](int64_t first, std::span<const float> part) {
    if (flags.by_position) by_position.Add(first, part);
    result.sum_logprob += SumOfFinite(part, first);
    result.scored += static_cast<int64_t>(part.size());
  });
  TextFeed feed(tokenizer, {.add_special_tokens = true}, generator);
  TextCounter counter;
  const int64_t bytes = RegularFileBytes(flags.text);
  CountProgress progress("scoring:", 0);
  ForEachSlice(flags.text, [&](std::string_view slice) {
    counter.Add(slice);
    feed.Append(slice);
    const double share = static_cast<double>(counter.size().bytes) / static_cast<double>(bytes);
    if (share <= 1) progress.Expect(static_cast<int64_t>(static_cast<double>(feed.tokens()) / share));
    progress.Update(generator.state().position);
  });
  size = counter.size();
  RequireSomeText(size, flags);
  feed.Finish(InputName(flags.text));
  progress.Expect(feed.tokens());
  progress.Update(feed.tokens());
  progress.Finish();
  result.tokens = feed.tokens();
  if (result.tokens == 0) throw UserError({"tokens", "the sequence is empty", "at least one token", "none"});
  NoteAddedTokens(tokenizer, feed.opening());
  result.selected_share = generator.selected_share();
  result.seconds = NowSeconds() - start;
  return result;
}

// What windows, logits and recall hits need: all tokens.
ScoreResult ScoreWhole(const LanguageModel& model, const Tokenizer& tokenizer, const ScoreFlags& flags,
                       PositionLoss& by_position, TextSize& size, RecallLoss& recall_loss) {
  std::vector<int32_t> tokens;
  {
    const std::string text = ReadInput(flags.text);
    TextCounter counter;
    counter.Add(text);
    size = counter.size();
    RequireSomeText(size, flags);
    tokens = EncodeText(tokenizer, text);
    NoteAddedTokens(tokenizer, tokens);
  }
  LogitsFile logits(flags.logits, model.config().vocab_size);
  logits.Begin(static_cast<int64_t>(tokens.size()));
  RecallReport recall(tokens, flags.context, model.config().conv_kernel);
  const ScoreResult result = Score(model, tokens, flags, logits, by_position, recall);
  logits.Write();
  recall_loss = recall.loss();
  return result;
}

}  // namespace

int64_t CountTextTokens(const Tokenizer& tokenizer, const std::string& path) {
  if (RegularFileBytes(path) == 0) return 0;
  EncodeStream stream(tokenizer);
  size_t tokens = 0;
  ForEachSlice(path, [&](std::string_view slice) { tokens += stream.Append(slice).size(); });
  return static_cast<int64_t>(tokens + stream.Finish().size());
}

void ScoreText(const LanguageModel& model, const Tokenizer& tokenizer, const ScoreFlags& flags) {
  TextSize size;
  PositionLoss by_position;
  RecallLoss recall;
  const bool whole = flags.context > 0 || flags.recall_hits || !flags.logits.empty();
  const ScoreResult result = whole ? ScoreWhole(model, tokenizer, flags, by_position, size, recall)
                                   : ScoreAsItComes(model, tokenizer, flags, by_position, size);
  NoteLongContext(model.config(), flags.context > 0 ? std::min(flags.context, result.tokens) : result.tokens,
                  "a stretch has");
  if (!flags.svg.empty()) by_position.WriteSvg(flags.svg);
  if (flags.json) {
    OrderedJson report = TextReport(result, size, ComputesIn(model), flags);
    if (flags.by_position) report["by_position"] = by_position.Json();
    if (flags.recall_hits) report["recall_hits"] = RecallJson(recall);
    PrintJson(report);
    return;
  }
  PrintTextScore(result, size, flags);
  if (flags.recall_hits) {
    Print(fmt::format("{:<25}{:.6f} nats a token ({:.1f} % of them), others {:.6f}\n", "recall hits", recall.hit_ce(),
                      100 * recall.hit_share(), recall.other_ce()));
  }
  if (flags.by_position) Print(fmt::format("\n{}", by_position.Table()));
  Note(fmt::format("{:.1f} s, {:.0f} tokens/s, {}", result.seconds, static_cast<double>(result.tokens) / result.seconds,
                   ComputesIn(model)));
}

}  // namespace taipan
