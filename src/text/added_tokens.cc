#include "text/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "text/unicode/utf8.h"

namespace taipan {

AddedToken ReadAddedToken(const JsonPart& part) {
  part.RequireKeys({"id", "content", "special", "single_word", "lstrip", "rstrip", "normalized"});
  AddedToken token;
  token.id = static_cast<int32_t>(part.Member("id").Integer());
  token.content = part.String("content");
  token.special = part.Bool("special", false);
  token.single_word = part.Bool("single_word", false);
  token.lstrip = part.Bool("lstrip", false);
  token.rstrip = part.Bool("rstrip", false);
  token.normalized = part.Bool("normalized", !token.special);
  return token;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer) : tokens_(std::move(tokens)) {
  // Of equal contents the first counts, and special tokens come first.
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.special && !b.special; });
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    by_content_.emplace(token.content, i);
    by_id_.emplace(token.id, i);
    std::string buffer;
    const bool normalize = token.normalized && normalizer != nullptr;
    const std::string_view content = normalize ? normalizer->Apply(token.content, buffer) : token.content;
    Trie& trie = tries_[token.normalized ? 1 : 0];
    Insert(trie, content, i);
    ForbidCuts(trie, content, token);
    if (token.single_word && !word_) word_.emplace(fmt::format("[{}]", RustWordClass()), "single_word");
  }
}

void AddedTokens::Insert(Trie& trie, std::string_view content, size_t token) {
  if (content.empty()) return;
  trie.starts[static_cast<uint8_t>(content[0])] = true;
  size_t node = 0;
  for (const char c : content) {
    const auto byte = static_cast<uint8_t>(c);
    auto& next = trie.nodes[node].next;
    const auto edge = std::find_if(next.begin(), next.end(), [&](const auto& e) { return e.first == byte; });
    if (edge != next.end()) {
      node = static_cast<size_t>(edge->second);
      continue;
    }
    next.emplace_back(byte, static_cast<int32_t>(trie.nodes.size()));
    node = trie.nodes.size();
    trie.nodes.emplace_back();
  }
  if (trie.nodes[node].token < 0) trie.nodes[node].token = static_cast<int32_t>(token);
}

void AddedTokens::ForbidCuts(Trie& trie, std::string_view content, const AddedToken& token) {
  const auto is_space = [&](size_t i) { return content[i] == ' ' || content.substr(i).starts_with("\u2581"); };
  if (content.empty()) return;
  // What stands before a token that opens with the space decides whether it is found.
  if (token.single_word && is_space(0)) trie.no_cut_behind.assign(256, true);
  for (size_t i = 1; i < content.size(); ++i) {
    if (is_space(i)) trie.no_cut_behind[static_cast<uint8_t>(content[i - 1])] = true;
  }
  if (token.rstrip) trie.no_cut_behind[static_cast<uint8_t>(content.back())] = true;
}

int32_t AddedTokens::Longest(const Trie& trie, std::string_view text, size_t at, size_t* size) {
  int32_t token = -1;
  size_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto& next = trie.nodes[node].next;
    const auto byte = static_cast<uint8_t>(text[i]);
    const auto edge = std::find_if(next.begin(), next.end(), [&](const auto& e) { return e.first == byte; });
    if (edge == next.end()) break;
    node = static_cast<size_t>(edge->second);
    if (trie.nodes[node].token < 0) continue;
    token = trie.nodes[node].token;
    *size = i + 1 - at;
  }
  return token;
}

bool AddedTokens::StandsAlone(std::string_view text, size_t begin, size_t end) const {
  const auto is_word = [&](std::string_view character) {
    size_t from = 0, to = 0;
    return Regex::Search(*word_, character).Next(&from, &to);
  };
  size_t before = begin;
  while (before > 0 && (static_cast<uint8_t>(text[--before]) & 0xC0) == 0x80) continue;
  if (before < begin && is_word(text.substr(before, begin - before))) return false;
  return end == text.size() || !is_word(text.substr(end, Utf8CharacterSize(text.substr(end))));
}

void AddedTokens::Split(Kind kind, std::string_view text, bool parse_special, const Sink& f) const {
  const Trie& trie = tries_[static_cast<size_t>(kind)];
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    size_t size = 0;
    const bool starts = trie.starts[static_cast<uint8_t>(text[at])];
    const int32_t index = starts ? Longest(trie, text, at, &size) : -1;
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    size_t begin = at, end = at + size;
    at = end;
    if (token.special && !parse_special) continue;
    if (token.single_word && !StandsAlone(text, begin, end)) continue;
    if (token.lstrip) begin = begin > done ? begin - TrailingSpaces(text.substr(done, begin - done)) : done;
    if (token.rstrip) end += LeadingSpaces(text.substr(end));
    if (done < begin) f(-1, text.substr(done, begin - done));
    if (begin < end) f(token.id, "");  // else its white space is the token's before it
    done = std::max(done, end);
  }
  if (done < text.size()) f(-1, text.substr(done));
}

void AddedTokens::Split(std::string_view text, bool parse_special, const Sink& f) const {
  Split(Kind::kPlain, text, parse_special, [&](int32_t id, std::string_view part) {
    id >= 0 ? f(id, part) : Split(Kind::kNormalized, part, parse_special, f);
  });
}

bool AddedTokens::AllowsCut(Kind kind, std::string_view text, size_t at, bool parse_special,
                            const std::function<bool(std::string_view, size_t)>& inside) const {
  const Trie& trie = tries_[static_cast<size_t>(kind)];
  if (trie.no_cut_behind[static_cast<uint8_t>(text[at - 1])]) return false;
  bool allowed = false;
  Split(kind, text, parse_special, [&](int32_t id, std::string_view part) {
    if (id >= 0) return;
    const auto begin = static_cast<size_t>(part.data() - text.data());
    if (begin < at && at < begin + part.size()) allowed = inside(part, at - begin);
  });
  return allowed;
}

bool AddedTokens::AllowsCut(std::string_view text, size_t at, bool parse_special,
                            const std::function<bool(std::string_view, size_t)>& inside) const {
  return AllowsCut(Kind::kPlain, text, at, parse_special, [&](std::string_view part, size_t cut) {
    return AllowsCut(Kind::kNormalized, part, cut, parse_special, inside);
  });
}

const AddedToken* AddedTokens::Find(std::string_view content) const {
  const auto it = by_content_.find(content);
  return it == by_content_.end() ? nullptr : &tokens_[it->second];
}

const AddedToken* AddedTokens::Find(int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[it->second];
}

}  // namespace taipan
