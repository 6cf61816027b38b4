#include "text/bpe/bpe_train.h"

#include <algorithm>
#include <queue>

#include "base/error.h"
#include "text/tokenizer_json_write.h"
#include "text/unicode/byte_alphabet.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

constexpr int64_t kMinCount = 2;

struct PairEntry {
  int64_t count = 0;
  std::vector<uint32_t> words;  // where it stood once, perhaps no more, perhaps twice
};

struct Candidate {
  int64_t count = 0;
  uint64_t pair = 0;
  // The top of the heap: the largest count, of equal ones the smallest ids.
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

uint64_t Pack(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// The bytes in the order of the characters that spell them: the ids that Hugging Face gives.
std::vector<std::string> BytesBySpelling() {
  std::vector<std::pair<uint32_t, std::string>> bytes;
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    bytes.emplace_back(DecodeUtf8(SpellBytes(byte)), byte);
  }
  std::sort(bytes.begin(), bytes.end());
  std::vector<std::string> sorted;
  for (auto& [character, byte] : bytes) sorted.push_back(std::move(byte));
  return sorted;
}

class Trainer {
 public:
  Trainer(const WordCounts& words, int64_t first_id) : first_id_(static_cast<int32_t>(first_id)) {
    result_.tokens = BytesBySpelling();
    for (size_t i = 0; i < result_.tokens.size(); ++i) ids_[result_.tokens[i]] = Id(i);
    SplitWords(words);
    for (auto& [pair, entry] : pairs_) Push(pair, entry.count);
  }

  TrainedBpe Run(int64_t tokens, const std::function<void(int64_t)>& progress) {
    while (static_cast<int64_t>(result_.tokens.size()) < tokens && !heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      const int64_t count = pairs_[top.pair].count;
      if (top.count != count) {  // it was counted before other merges took some
        Push(top.pair, count);
        continue;
      }
      Merge(top.pair);
      if (result_.merges.size() % 64 == 0) progress(static_cast<int64_t>(result_.tokens.size()));
    }
    return std::move(result_);
  }

 private:
  int32_t Id(size_t token) const { return first_id_ + static_cast<int32_t>(token); }

  void Push(uint64_t pair, int64_t count) {
    if (count >= kMinCount) heap_.push({count, pair});
  }

  // Words as ids of bytes. Sorted, so that nothing depends on the order of a hash table.
  void SplitWords(const WordCounts& words) {
    std::vector<const std::pair<const std::string, int64_t>*> sorted;
    for (const auto& entry : words.counts()) sorted.push_back(&entry);
    std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
    CHECK_LT(sorted.size(), size_t{1} << 32);
    for (const auto* entry : sorted) {
      const auto index = static_cast<uint32_t>(words_.size());
      std::vector<int32_t> symbols;
      for (const char byte : entry->first) symbols.push_back(ids_.at(std::string(1, byte)));
      counts_.push_back(entry->second);
      words_.push_back(std::move(symbols));
      for (size_t i = 0; i + 1 < words_.back().size(); ++i) {
        Change(Pack(words_.back()[i], words_.back()[i + 1]), entry->second, index);
      }
    }
    changed_.clear();
  }

  void Change(uint64_t pair, int64_t by, uint32_t word) {
    PairEntry& entry = pairs_[pair];
    entry.count += by;
    if (by <= 0) return;
    if (entry.words.empty() || entry.words.back() != word) entry.words.push_back(word);
    changed_.push_back(pair);
  }

  void Merge(uint64_t pair) {
    const auto left = static_cast<int32_t>(pair >> 32), right = static_cast<int32_t>(pair & 0xFFFFFFFFu);
    const auto text = [&](int32_t id) -> const std::string& {
      return result_.tokens[static_cast<size_t>(id - first_id_)];
    };
    std::string token = text(left) + text(right);
    // Two merges may spell the same token.
    const auto [it, added] = ids_.try_emplace(token, Id(result_.tokens.size()));
    const int32_t id = it->second;
    if (added) result_.tokens.push_back(std::move(token));
    result_.merges.push_back({left, right, id});
    const std::vector<uint32_t> words = std::exchange(pairs_[pair].words, {});
    for (const uint32_t word : words) MergeIn(word, left, right, id);
    pairs_[pair].count = 0;
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const uint64_t other : changed_) Push(other, pairs_[other].count);
    changed_.clear();
  }

  void MergeIn(uint32_t word, int32_t left, int32_t right, int32_t id) {
    std::vector<int32_t>& symbols = words_[word];
    const int64_t count = counts_[word];
    size_t out = 0;
    for (size_t i = 0; i < symbols.size(); ++out) {
      const bool match = symbols[i] == left && i + 1 < symbols.size() && symbols[i + 1] == right;
      if (!match) {
        symbols[out] = symbols[i++];
        continue;
      }
      if (out > 0) {
        Change(Pack(symbols[out - 1], left), -count, word);
        Change(Pack(symbols[out - 1], id), count, word);
      }
      if (i + 2 < symbols.size()) {
        Change(Pack(right, symbols[i + 2]), -count, word);
        Change(Pack(id, symbols[i + 2]), count, word);
      }
      symbols[out] = id;
      i += 2;
    }
    symbols.resize(out);
  }

  const int32_t first_id_;
  TrainedBpe result_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<std::vector<int32_t>> words_;
  std::vector<int64_t> counts_;  // of words
  std::unordered_map<uint64_t, PairEntry> pairs_;
  std::priority_queue<Candidate> heap_;
  std::vector<uint64_t> changed_;  // pairs that the merge under way made more frequent
};

}  // namespace

WordCounts::WordCounts() : pattern_(kGpt2Pattern, "the GPT-2 pattern") {}

void WordCounts::Add(std::string_view text) {
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t size = Utf8CharacterSize(text.substr(i));
    if (size == 0) {
      if (i > begin) AddValid(text.substr(begin, i - begin));
      Count(text.substr(i, 1));
      begin = i + 1;
    }
    i += size > 0 ? size : 1;
  }
  if (begin < text.size()) AddValid(text.substr(begin));
}

void WordCounts::AddValid(std::string_view text) {
  pattern_.ForEach(text, [&](size_t begin, size_t end, bool) { Count(text.substr(begin, end - begin)); });
}

void WordCounts::Count(std::string_view word) {
  word_ = word;
  ++counts_[word_];
}

TrainedBpe TrainBpe(const WordCounts& words, int64_t vocab_size, const std::vector<std::string>& special_tokens,
                    const std::function<void(int64_t)>& progress) {
  const auto specials = static_cast<int64_t>(special_tokens.size());
  CHECK_GE(vocab_size, 256 + specials);
  TrainedBpe bpe = Trainer(words, specials).Run(vocab_size - specials, progress);
  bpe.special_tokens = special_tokens;
  return bpe;
}

std::string TokenizerJson(const TrainedBpe& bpe) {
  ByteLevelBpeFile file;
  for (const std::string& special : bpe.special_tokens) {
    const auto id = static_cast<int32_t>(file.vocab.size());
    file.vocab.emplace_back(special, id);
    file.added.push_back({.id = id, .content = special, .special = true, .normalized = false});
  }
  for (const std::string& token : bpe.tokens) file.vocab.emplace_back(SpellBytes(token), file.vocab.size());
  const auto spelling = [&](int32_t id) -> const std::string& { return file.vocab[static_cast<size_t>(id)].first; };
  for (const BpeMerge& merge : bpe.merges) {
    file.merges.push_back(fmt::format("{} {}", spelling(merge.left), spelling(merge.right)));
  }
  file.pre_tokenizer = ByteLevelEntry(/*use_regex=*/true);
  return WriteTokenizerJson(std::move(file));
}

}  // namespace taipan
