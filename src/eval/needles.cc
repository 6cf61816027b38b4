#include "eval/needles.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/error.h"
#include "base/rng.h"
#include "eval/completions.h"
#include "infer/generator.h"
#include "infer/pair_tokens.h"
#include "infer/token_digest.h"

namespace taipan {
namespace {

constexpr char kNoise[] = " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
constexpr int64_t kFacts = 4;  // of needle_keys and needle_values

const std::vector<std::string> kKeys = {"quiet harbour",  "copper lantern", "winter orchard", "silver thimble",
                                        "broken compass", "paper garden",   "distant bell",   "velvet curtain",
                                        "amber window",   "hollow bridge",  "painted door",   "northern ferry"};

bool IsPasskey(const std::string& name) { return name == "passkey"; }
bool HasDepths(const std::string& name) { return name != "needle_values"; }

// What stands before the text.
std::string Opening(const std::string& name) {
  return IsPasskey(name)
             ? "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
               "I will quiz you about the important information there.\n\n"
             : "Some special magic numbers are hidden within the following text. Memorize them. I will quiz "
               "you about the numbers afterwards.\n\n";
}

struct Cut {
  int64_t at;  // tokens of the text before it
  std::vector<int32_t> tokens;
};

}  // namespace

std::vector<std::string> NeedleNames() { return {"passkey", "needle", "needle_keys", "needle_values"}; }

NeedleTask::NeedleTask(const std::string& name, const NeedleOptions& options, const Tokenizer& tokenizer)
    : name_(name), options_(options), tokenizer_(tokenizer) {
  hay_ = tokenizer.Encode(options.text.empty() ? kNoise : options.text);
  if (hay_.empty()) throw UserError({"--text", "no text to hide anything in", "a token at least", "none"});
  for (int64_t i = 0; i < std::ssize(hay_); ++i) {
    const std::string_view before =
        tokenizer.TokenBytes(hay_[static_cast<size_t>(i == 0 ? std::ssize(hay_) - 1 : i - 1)]);
    if (before.ends_with('.') || before.ends_with('\n') || before.ends_with('?') || before.ends_with('!')) {
      sentences_.push_back(i);
    }
  }
  if (sentences_.empty()) sentences_.push_back(0);
  AddItems();
}

// Keys, values and places of a series depend on the seed, its number and the task alone.
std::vector<NeedleTask::Fact> NeedleTask::FactsOf(const Series& series) const {
  const RandomKey key{options_.seed, kTaskStream + 128, static_cast<uint32_t>(series.number)};
  const int64_t digits = IsPasskey(name_) ? 10000 : 1000000;  // of five, of seven
  std::vector<Fact> facts;
  for (int64_t i = 0; i < (name_ == "passkey" || name_ == "needle" ? 1 : kFacts); ++i) {
    const uint64_t at = static_cast<uint64_t>(i);
    Fact fact;
    const uint64_t word =
        RandomPermutation({key.seed, key.stream + 1, key.step}, name_ == "needle_values" ? 0 : at, kKeys.size());
    fact.key = kKeys[word];
    fact.value = std::to_string(digits + static_cast<int64_t>(RandomBelow(key, at, static_cast<uint64_t>(9 * digits))));
    if (!HasDepths(name_) || i > 0) fact.depth = RandomUniform({key.seed, key.stream + 2, key.step}, at);
    facts.push_back(std::move(fact));
  }
  return facts;
}

std::string NeedleTask::Question(const Series& series) const {
  if (IsPasskey(name_)) return "\n\nWhat is the pass key? The pass key is";
  const std::string about = FactsOf(series)[0].key + " mentioned in the provided text";
  return HasDepths(name_)
             ? fmt::format("\n\nWhat is the special magic number for {0}? The special magic number for {0} is", about)
             : fmt::format("\n\nWhat are all the special magic numbers for {0}? The special magic numbers for {0} are",
                           about);
}

std::vector<int32_t> NeedleTask::AnswerTokens(const Series& series) const {
  if (!HasDepths(name_)) return {};
  return EncodePair(tokenizer_, Question(series), " " + FactsOf(series)[0].value, name_).tokens.continuation;
}

// The first place of the text from `at` on, or a little before, at which a sentence ended; the text is read from token
// `start` of hay_ on.
int64_t NeedleTask::SentenceEnd(int64_t start, int64_t at) const {
  const int64_t n = std::ssize(hay_), place = (start + at) % n;
  const auto after = std::upper_bound(sentences_.begin(), sentences_.end(), place);
  const int64_t nearest = after == sentences_.begin() ? sentences_.back() - n : *(after - 1);
  constexpr int64_t kFar = 256;
  return place - nearest > std::min(kFar, at) ? at : at - (place - nearest);
}

std::vector<int32_t> NeedleTask::Tokens(const Series& series, size_t depth) const {
  std::vector<int32_t> tokens = tokenizer_.Encode(Opening(name_), {.add_special_tokens = true, .parse_special = false});
  const std::vector<int32_t> question = tokenizer_.Encode(Question(series));
  std::vector<Cut> cuts;
  int64_t hay = series.length - std::ssize(tokens) - std::ssize(question);
  const std::vector<Fact> facts = FactsOf(series);
  for (const Fact& fact : facts) {
    const std::string text =
        IsPasskey(name_) ? fmt::format(" The pass key is {0}. Remember it. {0} is the pass key.", fact.value)
                         : fmt::format(" One of the special magic numbers for {} is: {}.", fact.key, fact.value);
    cuts.push_back({0, tokenizer_.Encode(text)});
    hay -= std::ssize(cuts.back().tokens);
  }
  if (hay < 1) {
    throw UserError({"--lengths", "no room for a text around what is hidden",
                     fmt::format("{} tokens at least", series.length - hay + 1), std::to_string(series.length)});
  }
  const RandomKey key{options_.seed, kTaskStream + 132, static_cast<uint32_t>(series.number)};
  const int64_t start = sentences_[RandomBelow(key, 0, sentences_.size())];
  for (size_t i = 0; i < facts.size(); ++i) {
    const double share = facts[i].depth.value_or(options_.depths[depth]);
    cuts[i].at = SentenceEnd(start, std::llround(share * static_cast<double>(hay)));
  }
  std::stable_sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) { return a.at < b.at; });
  auto cut = cuts.begin();
  for (int64_t i = 0; i <= hay; ++i) {
    for (; cut != cuts.end() && cut->at <= i; ++cut)
      tokens.insert(tokens.end(), cut->tokens.begin(), cut->tokens.end());
    if (i < hay) tokens.push_back(hay_[static_cast<size_t>((start + i) % std::ssize(hay_))]);
  }
  tokens.insert(tokens.end(), question.begin(), question.end());
  return tokens;
}

void NeedleTask::AddItems() {
  EvalTask& task = prepared_.task;
  task = {.name = name_, .measure = Measure::kCompletion, .metrics = {"found"}};
  if (HasDepths(name_)) task.metrics.push_back("answer_nats");
  const size_t depths = HasDepths(name_) ? options_.depths.size() : 1;
  for (const int64_t length : options_.lengths) {
    for (size_t d = 0; d < depths; ++d) {
      EvalCell& cell = task.cells.emplace_back(EvalCell{{"length", static_cast<double>(length)}});
      if (HasDepths(name_)) cell.push_back({"depth", options_.depths[d]});
    }
  }
  for (size_t l = 0; l < options_.lengths.size(); ++l) {
    for (int64_t number = 0; number < options_.each; ++number) {
      Series& series = series_.emplace_back(Series{.length = options_.lengths[l], .number = number});
      std::vector<std::string> answers;
      for (const Fact& fact : FactsOf(series)) answers.push_back(fact.value);
      if (HasDepths(name_)) answers.resize(1);
      for (size_t d = 0; d < depths; ++d) {
        const std::vector<int32_t> tokens = Tokens(series, d);
        series.items.push_back(task.items.size());
        EvalItem& item = task.items.emplace_back();
        item.where = fmt::format("{}: text {} of {} tokens", name_, number, series.length);
        item.answers = answers;
        item.cell = static_cast<int64_t>(l * depths + d);
        prepared_.items.push_back({.tokens = series.length,
                                   .scores = HasDepths(name_) ? size_t{1} : size_t{0},
                                   .digest = DigestTokens(AnswerTokens(series), DigestTokens(tokens))});
      }
    }
  }
  prepared_.results.resize(task.items.size());
}

ItemResult NeedleTask::Ask(const LanguageModel& model, const SequenceState& shared, std::span<const int32_t> rest,
                           const std::vector<int32_t>& answer, const AnswerOptions& options) const {
  Generator generator(model);
  generator.Continue({.state = shared});
  if (options.stop) generator.StopWhen(options.stop);
  generator.Read(rest);
  ItemResult result;
  if (options.stop && options.stop()) return result;
  const SequenceSnapshot asked = generator.Snapshot();
  LineWriter writer(tokenizer_);
  generator.Generate({.sampling = {.temperature = 0},
                      .max_tokens = kCompletionTokens,
                      .stop_tokens = options.stop_tokens,
                      .vocab_limit = tokenizer_.vocab_size()},
                     [&](int32_t token) { return writer.Add(token); });
  result.completion = writer.Finish();
  if (answer.empty()) return result;
  generator.Continue(asked);
  double sum = 0;
  bool greedy = true;
  for (const int32_t token : answer) {
    const TokenScore score = ScoreToken(generator.logits(), token);
    sum += score.logprob;
    greedy = greedy && score.likeliest == token;
    generator.Read({&token, 1});
  }
  if (!std::isfinite(sum)) {
    throw UserError({name_, "the model's log-probability is not a number", "a finite value", fmt::format("{}", sum),
                     "its weights are damaged or its training diverged"});
  }
  result.logprobs = {sum / static_cast<double>(answer.size())};
  result.greedy = {greedy};
  return result;
}

bool NeedleTask::Answer(const LanguageModel& model, const AnswerOptions& options) {
  // States are forked on the grid of chunks, where that changes no bit.
  const int64_t grid = std::max<int64_t>(model.config().chunk_size, 16);
  SequenceReader reader(model);
  for (const Series& series : series_) {
    std::vector<size_t> open;  // depths
    for (size_t d = 0; d < series.items.size(); ++d) {
      if (!prepared_.results[series.items[d]]) open.push_back(d);
    }
    const std::vector<int32_t> answer = AnswerTokens(series);
    SequenceState trunk = model.NewState();
    std::vector<int32_t> next = open.empty() ? std::vector<int32_t>() : Tokens(series, open[0]);
    for (size_t i = 0; i < open.size(); ++i) {
      const double start = NowSeconds();
      const std::vector<int32_t> tokens = std::move(next);
      next = i + 1 < open.size() ? Tokens(series, open[i + 1]) : std::vector<int32_t>();
      const int64_t common =
          std::mismatch(tokens.begin(), tokens.end(), next.begin(), next.end()).first - tokens.begin();
      const int64_t shared = std::max(std::min(common, std::ssize(tokens) - 1) / grid * grid, trunk.position);
      const std::span<const int32_t> all(tokens);
      reader.Read(all.subspan(static_cast<size_t>(trunk.position), static_cast<size_t>(shared - trunk.position)), trunk,
                  nullptr, options.stop);
      if (options.stop && options.stop()) return false;
      ItemResult result = Ask(model, trunk, all.subspan(static_cast<size_t>(shared)), answer, options);
      if (options.stop && options.stop()) return false;
      KeepResults({series.items[open[i]]}, {std::move(result)}, NowSeconds() - start, options.file, prepared_);
      if (options.on_read) options.on_read(series.length);
      if (common < trunk.position) trunk = model.NewState();  // nothing that the next one begins with
    }
  }
  return true;
}

}  // namespace taipan
