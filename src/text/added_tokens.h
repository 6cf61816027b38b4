#pragma once
// The tokens that are added to a model's vocabulary: they are found in the text before it is cut into words.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/json_part.h"
#include "text/normalizer.h"
#include "text/unicode/regex.h"

namespace taipan {

struct AddedToken {
  int32_t id = 0;
  std::string content = {};
  bool special = false;
  bool single_word = false;  // found only where no part of a word stands beside it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space behind it
  bool normalized = true;    // found in the normalized text, as its normalized content

  bool operator==(const AddedToken&) const = default;
};

AddedToken ReadAddedToken(const JsonPart& part);

class AddedTokens {
 public:
  // The normalizer, which may be null, is used here only.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer);
  AddedTokens(const AddedTokens&) = delete;
  AddedTokens& operator=(const AddedTokens&) = delete;

  enum class Kind { kPlain, kNormalized };  // the tokens with and without `normalized`
  // Cuts the text into tokens, f(id, ""), and stretches between them, f(-1, stretch). At each place the longest token
  // counts. Without parse_special the text of a special token is no token.
  using Sink = std::function<void(int32_t id, std::string_view text)>;
  void Split(Kind kind, std::string_view text, bool parse_special, const Sink& f) const;
  // Both kinds of tokens in turn, for tokenizers without a normalizer.
  void Split(std::string_view text, bool parse_special, const Sink& f) const;
  // Whether a text, as Split of this kind gets it, can be cut before the space or U+2581 at `at`: within a stretch of
  // which `inside` says so, and no token may lie on both sides or take the space.
  bool AllowsCut(Kind kind, std::string_view text, size_t at, bool parse_special,
                 const std::function<bool(std::string_view text, size_t at)>& inside) const;
  bool AllowsCut(std::string_view text, size_t at, bool parse_special,
                 const std::function<bool(std::string_view text, size_t at)>& inside) const;
  bool empty(Kind kind) const { return tries_[static_cast<size_t>(kind)].nodes.size() == 1; }

  const AddedToken* Find(std::string_view content) const;
  const AddedToken* Find(int32_t id) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  struct Node {
    std::vector<std::pair<uint8_t, int32_t>> next;
    int32_t token = -1;  // an index into tokens_
  };
  struct Trie {
    std::vector<Node> nodes = std::vector<Node>(1);
    std::vector<bool> starts = std::vector<bool>(256);  // bytes that open a token
    std::vector<bool> no_cut_behind = std::vector<bool>(256);
  };

  void Insert(Trie& trie, std::string_view content, size_t token);
  static void ForbidCuts(Trie& trie, std::string_view content, const AddedToken& token);
  // The longest token at `at`: its index and its size; -1 for none.
  static int32_t Longest(const Trie& trie, std::string_view text, size_t at, size_t* size);
  bool StandsAlone(std::string_view text, size_t begin, size_t end) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string_view, size_t> by_content_;
  std::unordered_map<int32_t, size_t> by_id_;
  Trie tries_[2];
  std::optional<Regex> word_;  // a character of words; only where a token wants single_word
};

}  // namespace taipan
