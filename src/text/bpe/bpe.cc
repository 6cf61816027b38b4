#include "text/bpe/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
constexpr size_t kShortWord = 48;  // symbols; up to here a scan for the lowest rank beats a heap
constexpr uint64_t kMix = 0x9E3779B97F4A7C15u;

uint64_t Fold(uint64_t a, uint64_t b) {
  a = (a ^ b) * kMix;
  return a ^ (a >> 29);
}

uint32_t HashWord(std::string_view s) {
  uint64_t hash = s.size(), tail = 0;
  const char* p = s.data();
  size_t n = s.size();
  for (; n >= 8; n -= 8, p += 8) {
    std::memcpy(&tail, p, 8);
    hash = Fold(hash, tail);
  }
  for (tail = 0; n > 0; --n, ++p) tail = tail << 8 | static_cast<uint8_t>(*p);
  return static_cast<uint32_t>(Fold(hash, tail) >> 32);
}

size_t HashPair(int32_t left, int32_t right) {
  const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  return (key * kMix) >> 32;
}

}  // namespace

Bpe::Bpe(std::vector<std::string> tokens, const BpeSettings& settings)
    : settings_(settings), tokens_(std::move(tokens)), whole_(tokens_.size()) {
  words_.resize(std::bit_ceil(2 * tokens_.size() + 1));
  const size_t mask = words_.size() - 1;
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (tokens_[id].empty() || Find(tokens_[id]) >= 0) continue;
    const uint32_t hash = HashWord(tokens_[id]);
    size_t slot = hash & mask;
    while (words_[slot].id >= 0) slot = (slot + 1) & mask;
    words_[slot] = {.hash = hash, .id = static_cast<int32_t>(id)};
  }
  for (size_t b = 0; b < 256; ++b) {
    const auto c = static_cast<char>(b);
    bytes_[b] = Find(settings.byte_fallback ? fmt::format("<0x{:02X}>", b) : std::string(1, c));
  }
}

Bpe Bpe::FromMerges(std::vector<std::string> tokens, const std::vector<BpeMerge>& merges, const BpeSettings& settings) {
  Bpe bpe(std::move(tokens), settings);
  bpe.ReservePairs(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) bpe.AddMerge(merges[rank], static_cast<uint32_t>(rank));
  bpe.FindWholeTokens();
  return bpe;
}

Bpe Bpe::FromRanks(std::vector<std::string> tokens, const std::vector<int32_t>& ranks, const BpeSettings& settings) {
  Bpe bpe(std::move(tokens), settings);
  CHECK_EQ(ranks.size(), bpe.tokens_.size());
  std::vector<BpeMerge> merges;
  for (size_t id = 0; id < ranks.size(); ++id) {
    const std::string_view token = bpe.tokens_[id];
    CHECK_LE(token.size(), kMaxRankedToken);
    if (ranks[id] < 0 || bpe.Find(token) != static_cast<int32_t>(id)) continue;
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const int32_t left = bpe.Find(token.substr(0, cut));
      const int32_t right = left < 0 ? -1 : bpe.Find(token.substr(cut));
      if (right < 0 || ranks[static_cast<size_t>(left)] < 0 || ranks[static_cast<size_t>(right)] < 0) continue;
      merges.push_back({.left = left, .right = right, .result = static_cast<int32_t>(id)});
    }
  }
  bpe.ReservePairs(merges.size());
  for (const BpeMerge& m : merges) bpe.AddMerge(m, static_cast<uint32_t>(ranks[static_cast<size_t>(m.result)]));
  bpe.FindWholeTokens();
  return bpe;
}

int32_t Bpe::Find(std::string_view token) const {
  const size_t mask = words_.size() - 1;
  const uint32_t hash = HashWord(token);
  for (size_t slot = hash & mask; words_[slot].id >= 0; slot = (slot + 1) & mask) {
    if (words_[slot].hash == hash && tokens_[static_cast<size_t>(words_[slot].id)] == token) return words_[slot].id;
  }
  return -1;
}

void Bpe::ReservePairs(size_t count) { pairs_.assign(std::bit_ceil(2 * count + 1), Pair()); }

void Bpe::AddMerge(const BpeMerge& merge, uint32_t rank) {
  const auto known = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < tokens_.size(); };
  CHECK(known(merge.left) && known(merge.right) && known(merge.result));
  const size_t mask = pairs_.size() - 1;
  size_t slot = HashPair(merge.left, merge.right) & mask;
  while (pairs_[slot].left >= 0 && (pairs_[slot].left != merge.left || pairs_[slot].right != merge.right)) {
    slot = (slot + 1) & mask;
  }
  pairs_[slot] = {.left = merge.left, .right = merge.right, .rank = rank, .result = merge.result};
}

const Bpe::Pair* Bpe::FindPair(int32_t left, int32_t right) const {
  const size_t mask = pairs_.size() - 1;
  for (size_t slot = HashPair(left, right) & mask; pairs_[slot].left >= 0; slot = (slot + 1) & mask) {
    if (pairs_[slot].left == left && pairs_[slot].right == right) return &pairs_[slot];
  }
  return nullptr;
}

uint32_t Bpe::Rank(int32_t left, int32_t right) const {
  const Pair* pair = FindPair(left, right);
  return pair == nullptr ? kNoRank : pair->rank;
}

// Words that are one token are most of a text; they need no merging.
void Bpe::FindWholeTokens() {
  std::vector<int32_t> ids;
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (tokens_[id].empty() || Find(tokens_[id]) != static_cast<int32_t>(id)) continue;
    ids.clear();
    if (!settings_.ignore_merges) {
      Split(tokens_[id], ids);
      Merge(ids, 0);
    }
    whole_[id] = settings_.ignore_merges || (ids.size() == 1 && ids[0] == static_cast<int32_t>(id));
  }
}

void Bpe::Encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (word.empty()) return;
  const int32_t whole = Find(word);
  if (whole >= 0 && whole_[static_cast<size_t>(whole)]) {
    ids.push_back(whole);
    return;
  }
  const size_t begin = ids.size();
  Split(word, ids);
  Merge(ids, begin);
}

// No token has the byte before the cut and the character behind it side by side. That character is known: unknown ones
// could become one token.
bool Bpe::AllowsCut(std::string_view word, size_t at) const {
  const size_t size = std::max<size_t>(Utf8CharacterSize(word.substr(at)), 1);
  if (settings_.ignore_merges || Find(word.substr(at, size)) < 0) return false;
  const std::string_view border = word.substr(at - 1, 1 + size);
  return std::all_of(tokens_.begin(), tokens_.end(), [&](const std::string& t) { return t.find(border) == t.npos; });
}

void Bpe::Split(std::string_view word, std::vector<int32_t>& symbols) const {
  bool pending = false;  // an unknown symbol waits for the next known one, as Hugging Face's implementation has it
  const auto add_unknown = [&] {
    if (pending && !settings_.fuse_unknown) symbols.push_back(settings_.unknown);
    pending = settings_.unknown >= 0;
  };
  const auto add_known = [&](int32_t id) {
    if (pending) symbols.push_back(settings_.unknown);
    pending = false;
    symbols.push_back(id);
  };
  for (size_t i = 0, size = 1; i < word.size(); i += size) {
    size = settings_.characters ? Utf8CharacterSize(word.substr(i)) : 1;
    const std::string_view symbol = word.substr(i, std::max<size_t>(size, 1));
    size = symbol.size();
    if (!settings_.characters && !settings_.byte_fallback) {
      const int32_t id = bytes_[static_cast<uint8_t>(symbol[0])];
      id >= 0 ? add_known(id) : add_unknown();
      continue;
    }
    const int32_t id = Find(symbol);
    if (id >= 0) {
      add_known(id);
      continue;
    }
    const auto has_byte = [&](char c) { return bytes_[static_cast<uint8_t>(c)] >= 0; };
    if (settings_.byte_fallback && std::all_of(symbol.begin(), symbol.end(), has_byte)) {
      for (const char c : symbol) symbols.push_back(bytes_[static_cast<uint8_t>(c)]);
    } else {
      add_unknown();
    }
  }
  if (pending) symbols.push_back(settings_.unknown);
}

void Bpe::Merge(std::vector<int32_t>& symbols, size_t begin) const {
  if (symbols.size() - begin <= kShortWord) {
    MergeShort(symbols, begin);
  } else {
    MergeLong(symbols, begin);
  }
}

void Bpe::MergeShort(std::vector<int32_t>& symbols, size_t begin) const {
  int32_t* ids = symbols.data() + begin;
  size_t n = symbols.size() - begin;
  uint32_t ranks[kShortWord];  // ranks[i]: of ids[i] with ids[i + 1]
  int32_t results[kShortWord];
  const auto look_up = [&](size_t i) {
    const Pair* pair = FindPair(ids[i], ids[i + 1]);
    ranks[i] = pair == nullptr ? kNoRank : pair->rank;
    results[i] = pair == nullptr ? -1 : pair->result;
  };
  for (size_t i = 0; i + 1 < n; ++i) look_up(i);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) best = ranks[i] < ranks[best] ? i : best;
    if (ranks[best] == kNoRank) break;
    ids[best] = results[best];
    --n;
    for (size_t i = best + 1; i < n; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];  // the last one moves garbage that nothing reads
      results[i] = results[i + 1];
    }
    if (best + 1 < n) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  symbols.resize(begin + n);
}

// A heap of (rank, position) over a list of symbols. An entry whose pair has changed since is dropped when it comes up:
// the pair at its position then has another rank, or is found a second time and merged already.
void Bpe::MergeLong(std::vector<int32_t>& symbols, size_t begin) const {
  struct Entry {
    uint32_t rank, at;
    bool operator<(const Entry& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }  // lowest on top
  };
  int32_t* ids = symbols.data() + begin;
  const size_t count = symbols.size() - begin;
  CHECK_LT(count, size_t{kNoRank});
  const auto n = static_cast<uint32_t>(count);
  std::vector<uint32_t> next(n), previous(n);
  std::vector<Entry> heap;
  for (uint32_t i = 0; i < n; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;
    const uint32_t rank = i + 1 < n ? Rank(ids[i], ids[i + 1]) : kNoRank;
    if (rank != kNoRank) heap.push_back({rank, i});
  }
  std::make_heap(heap.begin(), heap.end());
  const auto push = [&](uint32_t at) {
    const uint32_t rank = Rank(ids[at], ids[next[at]]);
    if (rank == kNoRank) return;
    heap.push_back({rank, at});
    std::push_heap(heap.begin(), heap.end());
  };
  while (!heap.empty()) {
    const Entry top = heap.front();
    std::pop_heap(heap.begin(), heap.end());
    heap.pop_back();
    const uint32_t at = top.at, right = next[at];
    if (ids[at] < 0 || right >= n) continue;
    const Pair* pair = FindPair(ids[at], ids[right]);
    if (pair == nullptr || pair->rank != top.rank) continue;
    ids[at] = pair->result;
    ids[right] = -1;
    next[at] = next[right];
    if (next[at] < n) previous[next[at]] = at;
    if (next[at] < n) push(at);
    if (at > 0) push(previous[at]);
  }
  symbols.erase(std::remove(symbols.begin() + static_cast<std::ptrdiff_t>(begin), symbols.end(), -1), symbols.end());
}

}  // namespace taipan
