#include "text/bpe/bpe_tokenizer.h"

#include "base/error.h"
#include "text/cut_places.h"
#include "text/leading_space_decoder.h"
#include "text/sentencepiece/sentencepiece_bpe.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

// The tokens that are cut out of a text, with their flags.
std::vector<AddedToken> TokensToCut(const BpeVocabulary& vocabulary) {
  std::unordered_map<int32_t, const AddedToken*> flags;
  for (const AddedToken& token : vocabulary.flags) flags[token.id] = &token;
  std::vector<AddedToken> tokens;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const BpeVocabulary::Token& token = vocabulary.tokens[i];
    if (token.kind == BpeVocabulary::kText) continue;
    const auto id = static_cast<int32_t>(i);
    tokens.push_back({.id = id, .normalized = false});
    if (const auto it = flags.find(id); it != flags.end()) tokens.back() = *it->second;
    tokens.back().content = token.spelling;
    tokens.back().special = token.kind == BpeVocabulary::kSpecial;
  }
  return tokens;
}

class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(BpeVocabulary vocabulary, Bpe bpe)
      : vocabulary_(std::move(vocabulary)),
        bpe_(std::move(bpe)),
        spaces_open_pieces_(SpacesOpenPieces(bpe_)),
        added_(TokensToCut(vocabulary_), nullptr) {
    for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) {
      const BpeVocabulary::Token& token = vocabulary_.tokens[i];
      if (!token.spelling.empty()) ids_.try_emplace(token.spelling, static_cast<int32_t>(i));
      spells_space_.push_back(token.kind != BpeVocabulary::kSpecial && token.spelling.starts_with(kSpacePiece));
    }
    set_bos(vocabulary_.bos);
    set_eos(vocabulary_.eos);
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(vocabulary_.tokens.size()); }

  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3 + 2);
    if (options.add_special_tokens && options.begins && vocabulary_.add_bos && bos().has_value()) ids.push_back(*bos());
    added_.Split(text, options.parse_special, [&](int32_t id, std::string_view part) {
      if (id >= 0) {
        ids.push_back(id);
      } else if (vocabulary_.spaces_as_pieces) {
        const bool first = part.data() == text.data();
        const bool prefix = first ? options.begins : !vocabulary_.prefix_first_only;
        EncodePieces(bpe_, spaces_open_pieces_, part, vocabulary_.add_space_prefix && prefix, ids);
      } else if (vocabulary_.add_space_prefix && !part.starts_with(' ')) {
        AppendWords(fmt::format(" {}", part), ids);
      } else {
        AppendWords(part, ids);
      }
    });
    if (options.add_special_tokens && options.ends && vocabulary_.add_eos && eos().has_value()) ids.push_back(*eos());
    return ids;
  }

  size_t CutIn(std::string_view text, const EncodeOptions& options) const override {
    return LastCut(text, [&](size_t at) {
      return added_.AllowsCut(text, at, options.parse_special,
                              [&](std::string_view part, size_t cut) { return AllowsCut(part, cut); });
    });
  }

  std::string_view TokenBytes(int32_t id) const override {
    if (id < 0 || id >= vocab_size()) {
      throw UserError(
          {"token id", "not in the vocabulary", fmt::format("0 to {}", vocab_size() - 1), std::to_string(id)});
    }
    return vocabulary_.tokens[static_cast<size_t>(id)].bytes;
  }

  std::optional<int32_t> TokenId(std::string_view spelling) const override {
    if (const AddedToken* token = added_.Find(spelling)) return token->id;
    const auto it = ids_.find(spelling);
    return it != ids_.end() ? std::optional<int32_t>(it->second) : std::nullopt;
  }

  bool IsSpecial(int32_t id) const override {
    return id >= 0 && id < vocab_size() && vocabulary_.tokens[static_cast<size_t>(id)].kind == BpeVocabulary::kSpecial;
  }

  bool IsAdded(int32_t id) const override { return added_.Find(id) != nullptr; }

  std::unique_ptr<TokenDecoder> NewDecoder() const override {
    const auto drop = vocabulary_.spaces_as_pieces && vocabulary_.add_space_prefix ? LeadingSpaceDecoder::kFirstSpace
                                                                                   : LeadingSpaceDecoder::kNothing;
    return std::make_unique<LeadingSpaceDecoder>(*this, spells_space_, drop);
  }

 private:
  // In a stretch between added tokens.
  bool AllowsCut(std::string_view text, size_t at) const {
    if (vocabulary_.spaces_as_pieces) {
      return spaces_open_pieces_ || bpe_.AllowsCut(fmt::format("{}{}", text[at - 1], kSpacePiece), 1);
    }
    const std::string_view run = ValidRunAround(text, at);
    const size_t in_run = at - static_cast<size_t>(run.data() - text.data());
    const bool prefix = vocabulary_.add_space_prefix && run.data() == text.data() && !text.starts_with(' ');
    return prefix ? AllowsCutIn(fmt::format(" {}", run), in_run + 1, 0) : AllowsCutIn(run, in_run, 0);
  }

  bool AllowsCutIn(std::string_view text, size_t at, size_t level) const {
    if (level == vocabulary_.patterns.size()) return bpe_.AllowsCut(text, at);
    const WordPattern::Cut cut = vocabulary_.patterns[level].CutAt(text, at);
    if (!cut.safe || cut.begin == cut.end) return cut.safe;
    return AllowsCutIn(text.substr(cut.begin, cut.end - cut.begin), at - cut.begin, level + 1);
  }

  // The patterns need valid UTF-8; a byte that is not becomes the token of that byte.
  void AppendWords(std::string_view text, std::vector<int32_t>& ids) const {
    size_t begin = 0;
    for (size_t i = 0; i < text.size();) {
      const size_t size = Utf8CharacterSize(text.substr(i));
      if (size == 0) {
        if (i > begin) AppendCut(text.substr(begin, i - begin), 0, ids);
        bpe_.Encode(text.substr(i, 1), ids);
        begin = i + 1;
      }
      i += size > 0 ? size : 1;
    }
    if (begin < text.size()) AppendCut(text.substr(begin), 0, ids);
  }

  void AppendCut(std::string_view text, size_t level, std::vector<int32_t>& ids) const {
    if (level == vocabulary_.patterns.size()) return bpe_.Encode(text, ids);
    vocabulary_.patterns[level].ForEach(
        text, [&](size_t begin, size_t end, bool) { AppendCut(text.substr(begin, end - begin), level + 1, ids); });
  }

  BpeVocabulary vocabulary_;
  Bpe bpe_;
  bool spaces_open_pieces_;
  std::unordered_map<std::string_view, int32_t> ids_;  // views of vocabulary_'s spellings
  std::vector<bool> spells_space_;
  AddedTokens added_;
};

}  // namespace

void SetAddedTokens(const std::vector<AddedToken>& added, BpeVocabulary& vocabulary) {
  for (const AddedToken& token : added) {
    const auto at = static_cast<size_t>(token.id);
    vocabulary.tokens.resize(std::max(vocabulary.tokens.size(), at + 1));
    vocabulary.tokens[at] = {token.content, token.content,
                             token.special ? BpeVocabulary::kSpecial : BpeVocabulary::kAddedText};
    vocabulary.flags.push_back(token);
  }
}

std::unique_ptr<Tokenizer> MakeBpeTokenizer(BpeVocabulary vocabulary, Bpe bpe) {
  return std::make_unique<BpeTokenizer>(std::move(vocabulary), std::move(bpe));
}

}  // namespace taipan
