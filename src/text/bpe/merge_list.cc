#include "text/bpe/merge_list.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "text/unicode/byte_alphabet.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

std::string Shown(std::string_view token) { return DescribeJson(ToValidUtf8(token)); }

}  // namespace

MergeList::MergeList(BpeVocabulary& vocabulary, const std::string& where) {
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    BpeVocabulary::Token& token = vocabulary.tokens[i];
    if (token.kind != BpeVocabulary::kText || token.spelling.empty()) continue;
    if (!ids_.try_emplace(token.spelling, static_cast<int32_t>(i)).second) {
      throw UserError(where, "the vocabulary has a token twice: " + Shown(token.spelling));
    }
    token.bytes = UnspellBytes(token.spelling).value_or(token.spelling);
  }
  // Words may pass through a token that is also cut out of a text.
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    ids_.try_emplace(vocabulary.tokens[i].spelling, static_cast<int32_t>(i));
  }
  for (char c = ' '; c <= '~'; ++c) {
    if (ids_.count(SpellBytes({&c, 1})) == 0) {
      throw UserError({where, "the vocabulary is not byte-level BPE", "a token for every printable ASCII character",
                       "none for " + Shown({&c, 1})});
    }
  }
}

int32_t MergeList::Find(const std::string& spelling, const std::string& where) const {
  const auto it = ids_.find(spelling);
  if (it == ids_.end()) throw UserError(where, "a merge of a token that the vocabulary lacks: " + Shown(spelling));
  return it->second;
}

void MergeList::Add(std::string_view merge, const std::string& where) {
  const size_t space = merge.find(' ', 1);
  if (merge.empty() || space == merge.npos || space + 1 == merge.size() || merge.find(' ', space + 1) != merge.npos) {
    throw UserError({where, "a damaged merge", "two tokens", Shown(merge)});
  }
  const std::string left(merge.substr(0, space)), right(merge.substr(space + 1));
  if (!UnspellBytes(left) || !UnspellBytes(right)) {
    throw UserError({.where = where, .problem = "a merge outside of the byte alphabet", .found = Shown(merge)});
  }
  if (right.ends_with("</w>")) throw UserError(where, "vocabularies with an end-of-word suffix are not supported");
  merges_.push_back({Find(left, where), Find(right, where), Find(left + right, where)});
}

Bpe MergeList::Build(const BpeVocabulary& vocabulary, const BpeSettings& settings) const {
  std::vector<bool> merged(vocabulary.tokens.size());
  for (size_t i = 0; i < merged.size(); ++i) merged[i] = vocabulary.tokens[i].kind == BpeVocabulary::kText;
  for (const BpeMerge& merge : merges_) {
    for (const int32_t id : {merge.left, merge.right, merge.result}) merged[static_cast<size_t>(id)] = true;
  }
  std::vector<std::string> tokens;
  for (size_t i = 0; i < merged.size(); ++i) {
    tokens.push_back(merged[i] ? UnspellBytes(vocabulary.tokens[i].spelling).value_or("") : "");
  }
  return Bpe::FromMerges(std::move(tokens), merges_, settings);
}

}  // namespace taipan
