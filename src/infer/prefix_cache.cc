#include "infer/prefix_cache.h"

#include <algorithm>
#include <map>

#include "base/progress.h"
#include "kernels/gemm/gemm_rows.h"
#include "kernels/gemm/quant_rows.h"

namespace taipan {
namespace {

// What the layers remember decides where a text may be taken up again.
bool AnyState(const LanguageModel& model, const std::function<bool(const StateSpec&)>& is) {
  bool any = false;
  ForEachState(model.layers(), [&](size_t, const StateSpec& spec) { any = any || is(spec); });
  return any;
}

bool HasQuantizedWeights(const LanguageModel& model) {
  bool found = false;
  model.params().ForEach([&](const Weight& w) { found = found || !w.quant.empty(); });
  return found;
}

int64_t FewRows(const LanguageModel& model) {
  if (model.dtype() == DType::kF32 && !HasQuantizedWeights(model)) return 0;
  return std::max(kFewRows, kFewQuantRows);
}

// A row of attention has the same bits wherever its call began; the sums of a fixed state go by chunks. Between two
// places are more than few rows.
int64_t GridOf(const LanguageModel& model) {
  const bool fixed = AnyState(model, [](const StateSpec& spec) { return !spec.per_token; });
  const int64_t chunk = fixed ? std::max<int64_t>(model.config().chunk_size, 1) : 1;
  return (FewRows(model) / chunk + 1) * chunk;
}

bool CanRewind(const LanguageModel& model) {
  return !AnyState(model, [](const StateSpec& spec) { return !spec.per_token || spec.window > 0; });
}

int64_t Count(std::span<const int32_t> tokens) { return static_cast<int64_t>(tokens.size()); }

int64_t Shared(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

PrefixCache::PrefixCache(const LanguageModel& model, const PrefixCacheOptions& options)
    : model_(model),
      options_(options),
      few_(FewRows(model)),
      grid_(GridOf(model)),
      can_rewind_(CanRewind(model)),
      selects_(model.config().num_sals() > 0),
      folder_(model, options.folder, options.folder_bytes) {}

// Whether a text of so many tokens may be taken up there: on the grid, and no part of the piece it lies in is of few
// rows (of which layers that select tokens may have few in any part).
bool PrefixCache::Serves(int64_t place, int64_t tokens) const {
  if (place == tokens) return true;
  const int64_t into = place % piece_, left = std::min(piece_ - into, tokens - place);
  const bool can_cut = few_ == 0 || (!selects_ && into > few_ && left > few_);
  return place % grid_ == 0 && (into == 0 || can_cut);
}

// The beginning of `tokens` tokens, `shared` of them with the entry's text, that the entry can be taken up at.
int64_t PrefixCache::Usable(const Entry& entry, int64_t shared, int64_t tokens) const {
  if (shared >= entry.length) {
    const bool ready = entry.length < tokens || !entry.kept.logits.empty();
    if (ready && Serves(entry.length, tokens)) return entry.length;
  }
  if (!can_rewind_) return 0;
  int64_t place = std::min({shared, entry.length, tokens - 1}) / grid_ * grid_;  // one token gives the logits
  while (!Serves(place, tokens)) place -= grid_;
  return place;
}

PrefixCache::Match PrefixCache::FindInMemory(std::span<const int32_t> tokens) {
  Match best;
  std::map<const void*, int64_t> shared_with;  // texts have several checkpoints
  for (const Entry& entry : entries_) {
    const auto [at, is_new] = shared_with.try_emplace(entry.text.get(), 0);
    if (is_new) at->second = Shared(tokens, *entry.text);
    const int64_t shared = std::min(at->second, entry.length);
    best.shared = std::max(best.shared, shared);
    const int64_t usable = Usable(entry, shared, Count(tokens));
    if (usable > best.length) {
      best.entry = &entry;
      best.length = usable;
    }
  }
  return best;
}

PrefixCache::Match PrefixCache::Find(std::span<const int32_t> tokens, std::string& problem) {
  Match match = FindInMemory(tokens);
  if (auto loaded = folder_.Load(
          tokens, match.length, [&](int64_t place) { return Serves(place, Count(tokens)); }, problem)) {
    Entry entry{.text = std::make_shared<const std::vector<int32_t>>(std::move(loaded->tokens)),
                .length = loaded->state.position,
                .kept = std::move(*loaded),
                .on_disk = true};
    entry.kept.tokens.clear();
    Insert(std::move(entry));
    match = FindInMemory(tokens);
  }
  if (match.entry == nullptr) return match;
  const auto used = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return &e == match.entry; });
  entries_.splice(entries_.begin(), entries_, used);
  return match;
}

SequenceSnapshot PrefixCache::Rewound(const Match& match) const {
  if (match.entry == nullptr) return {model_.NewState()};
  const Entry& entry = *match.entry;
  SequenceSnapshot snapshot = entry.kept;
  snapshot.tokens.assign(entry.text->begin(), entry.text->begin() + match.length);
  if (match.length == entry.length) return snapshot;
  snapshot.state.position = match.length;
  for (LayerState& layer : snapshot.state.layers) layer.kv.Truncate(match.length);
  snapshot.token_digest = DigestTokens(snapshot.tokens);
  snapshot.logits.clear();
  return snapshot;
}

std::string PrefixCache::Reason(std::span<const int32_t> tokens, const Match& match) const {
  if (match.length == Count(tokens)) return "";
  int64_t dropped = 0;
  for (const TokenPrefix* prefix : PrefixesOf(tokens, dropped_)) dropped = prefix->length;
  if (dropped > match.length) {
    return fmt::format("the checkpoint at {} was dropped, because the cache may take {}", dropped,
                       FormatBytes(options_.memory_bytes));
  }
  if (entries_.empty()) return "the cache is empty";
  if (match.shared == 0) return "no text in the cache begins like this one";
  if (match.shared > match.length) {
    return fmt::format("it shares {} tokens with a text in the cache, whose last checkpoint before that is at {}",
                       match.shared, match.length);
  }
  return fmt::format("it is new from token {} on", match.length);
}

// Where checkpoints are left in a text of `tokens` tokens that is read from `from` on; the end is always one.
std::vector<int64_t> PrefixCache::Places(int64_t from, int64_t tokens, std::span<const int64_t> ends) const {
  std::vector<int64_t> places = {tokens};
  const auto add = [&](int64_t place, int64_t grid) {
    if (place > 0) places.push_back(place / grid * grid);
  };
  if (!can_rewind_) {
    add(tokens - 1, grid_);
    add(tokens - 1, std::max(piece_, grid_));  // the one before may cut a piece that cannot be cut
    for (const int64_t end : ends) add(std::min(end, tokens), grid_);
    for (int64_t back = piece_; back < tokens; back *= 2) add(tokens - back, std::max(piece_, grid_));
  }
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  std::erase_if(places, [&](int64_t place) { return place <= from || !Serves(place, tokens); });
  return places;
}

PrefixUse PrefixCache::Read(std::span<const int32_t> tokens, std::span<const int64_t> ends, Generator& generator,
                            const std::function<void(int64_t)>& progress) {
  CHECK(&generator.model() == &model_);
  CheckTokenIds(tokens, model_.config().vocab_size, "tokens");
  piece_ = generator.piece();
  PrefixUse use{.tokens = Count(tokens)};
  std::string problem;
  const Match match = Find(tokens, problem);
  use.reused = match.length;
  use.reason = problem.empty() || match.length == use.tokens ? Reason(tokens, match) : problem;
  reused_ += use.reused;
  generator.Continue(Rewound(match));
  const auto text = std::make_shared<const std::vector<int32_t>>(tokens.begin(), tokens.end());
  int64_t at = use.reused;
  for (const int64_t place : Places(use.reused, use.tokens, ends)) {
    const auto part = tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(place - at));
    const int64_t read = generator.Read(part, [&](int64_t done) {
      if (progress) progress(at + done);
    });
    use.complete = read == Count(part);
    if (!use.complete) break;
    at = place;
    Insert(text, place, generator);
  }
  return use;
}

void PrefixCache::Keep(const Generator& generator) {
  const int64_t length = generator.state().position;
  if (grid_ > 1) return;  // what was read token by token has other bits
  if (Count(generator.tokens()) != length || !generator.has_logits()) return;
  Insert(std::make_shared<const std::vector<int32_t>>(generator.tokens().begin(), generator.tokens().end()), length,
         generator);
}

void PrefixCache::Insert(const Text& text, int64_t length, const Generator& generator) {
  const auto tokens = std::span(*text).first(static_cast<size_t>(length));
  for (const Entry& entry : entries_) {
    if (entry.length == length && std::equal(tokens.begin(), tokens.end(), entry.text->begin())) return;
  }
  Entry entry{.text = text, .length = length, .kept = generator.Snapshot()};
  entry.kept.tokens = {};
  if (length != Count(*text)) entry.kept.logits = {};
  Insert(std::move(entry));
}

void PrefixCache::Insert(Entry entry) {
  if (can_rewind_ && grid_ == 1) {  // the new one serves wherever an earlier one of the same text did
    std::erase_if(entries_, [&](const Entry& old) {
      const bool covered = old.length <= entry.length && Shared(entry.tokens(), old.tokens()) == old.length;
      if (covered) bytes_ -= old.bytes;
      return covered;
    });
  }
  entry.bytes = entry.kept.state.bytes() +
                static_cast<int64_t>(entry.kept.logits.size() * sizeof(float) + entry.tokens().size_bytes());
  bytes_ += entry.bytes;
  entries_.push_front(std::move(entry));
  MakeRoom();
}

void PrefixCache::MakeRoom() {
  constexpr size_t kMostDropped = 256;
  while (bytes_ > options_.memory_bytes && !entries_.empty()) {
    Entry& last = entries_.back();
    Write(last);
    if (!last.on_disk) dropped_.push_back({last.length, last.kept.token_digest});
    if (dropped_.size() > kMostDropped) dropped_.erase(dropped_.begin());
    bytes_ -= last.bytes;
    entries_.pop_back();
  }
}

void PrefixCache::Write(Entry& entry) {
  if (!folder_.exists() || entry.on_disk || !folder_problem_.empty()) return;
  SequenceSnapshot snapshot = entry.kept;
  snapshot.tokens.assign(entry.tokens().begin(), entry.tokens().end());
  try {
    folder_.Save(snapshot);
    entry.on_disk = true;
  } catch (const UserError& error) {
    folder_problem_ = error.what();
  }
}

void PrefixCache::Flush() {
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) Write(*entry);
}

}  // namespace taipan
