#pragma once
// Byte-pair encoding of one word: from single symbols, the adjacent pair of the lowest rank merges first, the leftmost
// of equal ones, until no pair merges.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

struct BpeMerge {
  int32_t left = 0, right = 0, result = 0;
};

struct BpeSettings {
  bool characters = false;     // symbols start as UTF-8 characters (ill-formed bytes each alone); false: as bytes
  bool ignore_merges = false;  // a word that is a token stays whole, whether merges lead to it or not
  bool byte_fallback = false;  // an unknown character becomes the tokens "<0x00>" to "<0xFF>" of its bytes
  int32_t unknown = -1;        // for symbols that nothing else stands for; -1: they are left out
  bool fuse_unknown = false;   // a run of unknown symbols is one token
};

class Bpe {
 public:
  // FromRanks takes no longer tokens (bytes): its work grows with the square of their lengths.
  static constexpr size_t kMaxRankedToken = 1024;

  // tokens[id] are the token's bytes, "" for an id that encoding never gives. Of equal tokens the lowest id counts.
  // The rank of a merge is its place in `merges`; of equal pairs the last counts. All ids lie within `tokens`.
  static Bpe FromMerges(std::vector<std::string> tokens, const std::vector<BpeMerge>& merges,
                        const BpeSettings& settings);
  // Without a list of merges: two neighbours merge where their concatenation is a token, the one of the lowest
  // ranks[id] first (tiktoken: the id; SentencePiece: by falling score). -1: merges neither give nor take this token.
  static Bpe FromRanks(std::vector<std::string> tokens, const std::vector<int32_t>& ranks, const BpeSettings& settings);

  // Appends the ids. O(n log n) in the length of the word. May be called from several threads at once.
  void Encode(std::string_view word, std::vector<int32_t>& ids) const;
  // Whether a word that is cut before the character at `at` has the ids of both parts: nothing merges across.
  bool AllowsCut(std::string_view word, size_t at) const;
  // The id of these bytes, -1 for none.
  int32_t Find(std::string_view token) const;
  // The id of one byte (its "<0x..>" with byte_fallback), -1 for none.
  int32_t FindByte(uint8_t byte) const { return bytes_[byte]; }
  const std::vector<std::string>& tokens() const { return tokens_; }

 private:
  struct Pair {  // an empty slot has left -1
    int32_t left = -1, right = -1;
    uint32_t rank = 0;
    int32_t result = 0;
  };
  struct Word {  // a slot of the table of tokens, empty: id -1
    uint32_t hash = 0;
    int32_t id = -1;
  };

  Bpe(std::vector<std::string> tokens, const BpeSettings& settings);
  void AddMerge(const BpeMerge& merge, uint32_t rank);
  void ReservePairs(size_t count);
  void FindWholeTokens();
  const Pair* FindPair(int32_t left, int32_t right) const;
  uint32_t Rank(int32_t left, int32_t right) const;
  void Split(std::string_view word, std::vector<int32_t>& symbols) const;
  void Merge(std::vector<int32_t>& symbols, size_t begin) const;
  void MergeShort(std::vector<int32_t>& symbols, size_t begin) const;
  void MergeLong(std::vector<int32_t>& symbols, size_t begin) const;

  BpeSettings settings_;
  std::vector<std::string> tokens_;
  std::vector<bool> whole_;  // by id: this token's bytes, as a word, encode to the token alone
  std::vector<Word> words_;  // open addressing, a power of two
  std::vector<Pair> pairs_;  // the same
  std::array<int32_t, 256> bytes_;
};

}  // namespace taipan
