#include "eval/probes.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/error.h"
#include "base/power_law.h"
#include "base/rng.h"
#include "infer/continuations.h"
#include "infer/sequence_reader.h"

namespace taipan {
namespace {

// Draws of one sequence, a stream for each thing that is drawn.
struct Draws {
  uint64_t seed = 0;
  uint32_t cell = 0;
  uint64_t index = 0;
  RandomKey Key(uint32_t what) const { return {seed + (index << 20), kTaskStream + 64 + what, cell}; }
  int64_t Below(uint32_t what, int64_t i, int64_t n) const {
    return static_cast<int64_t>(RandomBelow(Key(what), static_cast<uint64_t>(i), static_cast<uint64_t>(n)));
  }
  int64_t Permuted(uint32_t what, int64_t i, int64_t n) const {
    return static_cast<int64_t>(RandomPermutation(Key(what), static_cast<uint64_t>(i), static_cast<uint64_t>(n)));
  }
};

void RequireIds(const std::string& name, int64_t needed, int64_t there) {
  if (needed <= there) return;
  throw UserError({"--tasks", name + " needs a larger vocabulary", fmt::format("{} ids at least", needed),
                   fmt::format("{}", there)});
}

void Ask(EvalItem& item, int64_t place, int64_t target) {
  item.places.push_back(place);
  item.targets.push_back(static_cast<int32_t>(target));
}

constexpr int64_t kJointContexts = 4;

struct Setting {
  int64_t length = 0, pairs = 0;
};

// Multi-query associative recall as zoology sets it (Arora et al., 2023): pairs of a key and a value, then blanks among
// which each key comes back once, sooner rather than later (power 0.01). Keys and values are halves of the vocabulary.
EvalItem Mqar(const Setting& setting, int64_t vocab, const Draws& draw) {
  constexpr double kPower = 0.01;
  const int64_t body = 2 * setting.pairs, keys = vocab / 2 - 1, values = vocab - vocab / 2;
  EvalItem item;
  item.tokens.assign(static_cast<size_t>(setting.length), 0);
  const std::vector<int64_t> slots = RandomByPowerLaw(draw.Key(2), (setting.length - body) / 2, setting.pairs, kPower);
  for (int64_t i = 0; i < setting.pairs; ++i) {
    const int64_t key = 1 + draw.Permuted(0, i, keys), value = vocab / 2 + draw.Permuted(1, i, values);
    const int64_t query = body + 2 * slots[static_cast<size_t>(i)];
    item.tokens[static_cast<size_t>(2 * i)] = item.tokens[static_cast<size_t>(query)] = static_cast<int32_t>(key);
    item.tokens[static_cast<size_t>(2 * i + 1)] = static_cast<int32_t>(value);
    Ask(item, query + 1, value);
  }
  return item;
}

// Keys have another value behind each of four context tokens; a context token and a key ask for it.
EvalItem JointRecall(const Setting& setting, int64_t vocab, const Draws& draw) {
  const int64_t each = setting.pairs / kJointContexts, body = kJointContexts * (1 + 2 * each);
  const int64_t first_key = 1 + kJointContexts, keys = vocab / 2 - first_key, slots = (setting.length - body) / 2;
  EvalItem item;
  item.tokens.assign(static_cast<size_t>(setting.length), 0);
  const auto set = [&](int64_t at, int64_t token) {
    item.tokens[static_cast<size_t>(at)] = static_cast<int32_t>(token);
  };
  for (int64_t c = 0; c < kJointContexts; ++c) {
    const int64_t begin = c * (1 + 2 * each), context = 1 + draw.Permuted(3, c, kJointContexts);
    set(begin, context);
    for (int64_t i = 0; i < each; ++i) {
      const int64_t pair = c * each + i, query = body + 2 * draw.Permuted(2, pair, slots);
      const int64_t key = first_key + draw.Permuted(0, i, keys);
      const int64_t value = vocab / 2 + draw.Below(1, pair, vocab - vocab / 2);
      set(begin + 1 + 2 * i, key);
      set(begin + 2 + 2 * i, value);
      set(query, context);
      set(query + 1, key);
      Ask(item, query + 2, value);
    }
  }
  return item;
}

// What a text may hold, and what opens one.
struct Ids {
  std::vector<int32_t> ids, before;
};

Ids OrdinaryIds(const ProbeOptions& options) {
  Ids result;
  const int64_t count =
      options.tokenizer == nullptr ? options.vocab : std::min(options.vocab, options.tokenizer->vocab_size());
  for (int32_t id = 0; id < count; ++id) {
    if (options.tokenizer == nullptr ||
        (!options.tokenizer->IsAdded(id) && !options.tokenizer->TokenBytes(id).empty())) {
      result.ids.push_back(id);
    }
  }
  if (options.tokenizer != nullptr) {
    result.before = options.tokenizer->Encode("", {.add_special_tokens = true, .parse_special = false});
  }
  return result;
}

// Different random tokens, twice: every token of the second time but its first can be copied.
EvalItem Copy(int64_t length, const Ids& ids, const Draws& draw) {
  EvalItem item;
  item.tokens = ids.before;
  for (int64_t i = 0; i < 2 * length; ++i) {
    const int32_t id = ids.ids[static_cast<size_t>(draw.Permuted(0, i % length, std::ssize(ids.ids)))];
    if (i > length) Ask(item, std::ssize(item.tokens), id);
    item.tokens.push_back(id);
  }
  return item;
}

// Different random tokens, then one of them again: what followed it follows.
EvalItem Induction(int64_t length, const Ids& ids, const Draws& draw) {
  EvalItem item;
  item.tokens = ids.before;
  const auto id = [&](int64_t i) { return ids.ids[static_cast<size_t>(draw.Permuted(0, i, std::ssize(ids.ids)))]; };
  for (int64_t i = 0; i < length; ++i) item.tokens.push_back(id(i));
  const int64_t again = draw.Below(1, 0, length - 1);
  item.tokens.push_back(id(again));
  Ask(item, std::ssize(item.tokens), id(again + 1));
  return item;
}

struct Probe {
  std::string name;
  std::vector<Setting> settings;  // usual ones
  int64_t multiple;               // of pairs
};
const std::vector<Probe>& Probes() {
  static const std::vector<Probe> probes = {
      {"mqar", {{64, 4}, {128, 8}, {256, 16}, {512, 64}, {1024, 128}, {1024, 256}}, 1},
      {"joint_recall", {{128, 16}, {256, 32}, {512, 64}}, kJointContexts},
      {"copy", {{16}, {64}, {256}, {1024}}, 0},
      {"induction", {{32}, {128}, {512}, {2048}}, 0}};
  return probes;
}

const Probe* FindProbe(const std::string& name) {
  for (const Probe& probe : Probes()) {
    if (name == probe.name || name.starts_with(probe.name + ":")) return &probe;
  }
  return nullptr;
}

// "256x16", or "256" where there are no pairs.
Setting ParseSetting(const std::string& text, const Probe& probe) {
  Setting s;
  const char* end = text.data() + text.size();
  const auto length = std::from_chars(text.data(), end, s.length);
  bool good = length.ec == std::errc() && s.length >= 2 && s.length <= 1 << 20;
  if (probe.multiple > 0 && good && length.ptr != end && *length.ptr == 'x') {
    const auto pairs = std::from_chars(length.ptr + 1, end, s.pairs);
    // As many queries as pairs, each with a place of two tokens behind them.
    const int64_t body = 2 * s.pairs + (probe.multiple > 1 ? probe.multiple : 0);
    good = pairs.ec == std::errc() && pairs.ptr == end && s.pairs >= 1 && s.pairs <= s.length &&
           s.pairs % probe.multiple == 0 && s.length % 2 == 0 && (s.length - body) / 2 >= s.pairs;
  } else {
    good = good && probe.multiple == 0 && length.ptr == end;
  }
  if (good) return s;
  const std::string pairs =
      fmt::format("LENGTHxPAIRS such as {}x{}, an even length of four times the pairs at least{}",
                  probe.settings[1].length, probe.settings[1].pairs, probe.multiple > 1 ? ", pairs in fours" : "");
  throw UserError({"--tasks", "no setting of " + probe.name, probe.multiple > 0 ? pairs : "a length such as 64", text});
}

void RequireVocabulary(const Probe& probe, const Setting& setting, const Ids& ids, int64_t vocab) {
  const std::string name = fmt::format("{} of {} tokens", probe.name, setting.length);
  if (probe.multiple == 0) {
    RequireIds(name, setting.length, std::ssize(ids.ids));
  } else {
    RequireIds(name, 2 * (setting.pairs + 1 + (probe.multiple > 1 ? kJointContexts : 0)), vocab);
  }
}

EvalItem MakeItem(const Probe& probe, const Setting& setting, const Ids& ids, int64_t vocab, const Draws& draw) {
  if (probe.name == "mqar") return Mqar(setting, vocab, draw);
  if (probe.name == "joint_recall") return JointRecall(setting, vocab, draw);
  return probe.name == "copy" ? Copy(setting.length, ids, draw) : Induction(setting.length, ids, draw);
}

// Several sequences in one forward.
class ProbeBatch {
 public:
  explicit ProbeBatch(const LanguageModel& model) : model_(model), gate_(InferenceGate(model.config())) {}

  int64_t tokens() const { return batch_.size(); }
  void Add(const EvalItem& item, ItemResult& result) {
    const int64_t begin = batch_.size();
    batch_.tokens.insert(batch_.tokens.end(), item.tokens.begin(), item.tokens.end());
    batch_.segments.push_back(
        {.begin = begin, .length = std::ssize(item.tokens), .row = static_cast<int64_t>(batch_.segments.size())});
    for (size_t i = 0; i < item.targets.size(); ++i) {
      rows_.push_back(begin + item.places[i] - 1);
      asked_.push_back({item.targets[i], &item, &result});
    }
  }

  void Run() {
    if (batch_.size() == 0) return;
    model_.Forward(batch_, gate_, /*keep=*/false, context_);
    constexpr int64_t kLogits = int64_t{16} << 20;  // numbers: 64 MiB
    const int64_t vocab = model_.config().vocab_size, count = std::ssize(rows_);
    const int64_t step = std::clamp<int64_t>(kLogits / vocab, 1, count);
    Tensor logits({step, vocab});
    for (int64_t begin = 0; begin < count; begin += step) {
      const int64_t rows = std::min(step, count - begin);
      const MatrixView part = logits.Matrix().Rows(0, rows);
      model_.Logits(context_, std::span(rows_).subspan(static_cast<size_t>(begin), static_cast<size_t>(rows)), part);
      for (int64_t i = 0; i < rows; ++i) {
        Judge({part.F32(i), static_cast<size_t>(vocab)}, asked_[static_cast<size_t>(begin + i)]);
      }
    }
    batch_ = {};
    rows_.clear();
    asked_.clear();
  }

 private:
  struct Asked {
    int32_t target;
    const EvalItem* item;
    ItemResult* result;
  };
  static void Judge(std::span<const float> logits, const Asked& asked) {
    const TokenScore score = ScoreToken(logits, asked.target);
    if (!std::isfinite(score.logprob)) {
      throw UserError({asked.item->where, "the model's log-probability is not a number", "a finite value",
                       fmt::format("{}", score.logprob), "its weights are damaged or its training diverged"});
    }
    asked.result->logprobs.push_back(score.logprob);
    asked.result->greedy.push_back(score.likeliest == asked.target);
  }

  const LanguageModel& model_;
  const GateOptions gate_;
  ForwardContext context_;
  Batch batch_;
  std::vector<int64_t> rows_;
  std::vector<Asked> asked_;
};

}  // namespace

std::vector<std::string> ProbeNames() {
  std::vector<std::string> names;
  for (const Probe& probe : Probes()) names.push_back(probe.name);
  return names;
}

bool IsProbe(const std::string& name) { return FindProbe(name) != nullptr; }

EvalTask MakeProbe(const std::string& name, const ProbeOptions& options) {
  const Probe* probe = FindProbe(name);
  CHECK(probe != nullptr);
  EvalTask task{.name = name, .measure = Measure::kTokens, .metrics = {"acc"}};
  std::replace(task.name.begin(), task.name.end(), ':', '_');
  const bool one = name.size() > probe->name.size();
  const std::vector<Setting> settings =
      one ? std::vector{ParseSetting(name.substr(probe->name.size() + 1), *probe)} : probe->settings;
  const Ids ids = probe->multiple == 0 ? OrdinaryIds(options) : Ids{};
  for (const Setting& setting : settings) {
    RequireVocabulary(*probe, setting, ids, options.vocab);
    EvalCell& cell = task.cells.emplace_back(EvalCell{{"length", static_cast<double>(setting.length)}});
    if (setting.pairs > 0) cell.push_back({"pairs", static_cast<double>(setting.pairs)});
    if (options.state_bytes) cell.push_back({"state_bytes", options.state_bytes(setting.length)});
  }
  for (int64_t i = 0; i < options.each; ++i) {
    for (size_t c = 0; c < settings.size(); ++c) {
      // The setting decides, not its place in the list: alone it has the same sequences.
      const Draws draw{options.seed, static_cast<uint32_t>(settings[c].length * 4099 + settings[c].pairs),
                       static_cast<uint64_t>(i)};
      EvalItem& item = task.items.emplace_back(MakeItem(*probe, settings[c], ids, options.vocab, draw));
      item.where = fmt::format("{}: sequence {} of {} tokens", probe->name, i, settings[c].length);
      item.cell = static_cast<int64_t>(c);
    }
  }
  return task;
}

std::vector<ItemResult> AnswerProbes(const LanguageModel& model, const std::vector<const EvalItem*>& items) {
  constexpr int64_t kTokens = 2048;  // of a forward, about
  std::vector<ItemResult> results(items.size());
  ProbeBatch batch(model);
  for (size_t i = 0; i < items.size(); ++i) {
    CheckTokenIds(items[i]->tokens, model.config().vocab_size, items[i]->where);
    batch.Add(*items[i], results[i]);
    if (batch.tokens() >= kTokens) batch.Run();
  }
  batch.Run();
  return results;
}

}  // namespace taipan
