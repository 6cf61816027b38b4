#include "text/bpe_tokenizer.h"

#include "base/error.h"
#include "text/leading_space_decoder.h"
#include "text/sentencepiece_bpe.h"
#include "text/utf8.h"

namespace taipan {
namespace {

class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(BpeVocabulary vocabulary, Bpe bpe)
      : vocabulary_(std::move(vocabulary)), bpe_(std::move(bpe)), spaces_open_pieces_(SpacesOpenPieces(bpe_)) {
    std::vector<std::pair<std::string, int32_t>> added, special;
    for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) {
      const BpeVocabulary::Token& token = vocabulary_.tokens[i];
      const auto id = static_cast<int32_t>(i);
      ids_.try_emplace(token.spelling, id);
      spells_space_.push_back(token.kind != BpeVocabulary::kSpecial && token.spelling.starts_with(kSpacePiece));
      if (token.kind == BpeVocabulary::kText) continue;
      special.emplace_back(token.spelling, id);
      if (token.kind == BpeVocabulary::kAddedText) added.emplace_back(token.spelling, id);
    }
    with_special_ = SpecialTokens(std::move(special));
    without_special_ = SpecialTokens(std::move(added));
    set_bos(vocabulary_.bos);
    set_eos(vocabulary_.eos);
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(vocabulary_.tokens.size()); }

  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3 + 2);
    if (options.add_special_tokens && vocabulary_.add_bos && bos().has_value()) ids.push_back(*bos());
    bool after_special = true;
    const auto on_text = [&](std::string_view part) {
      if (vocabulary_.spaces_as_pieces) {
        EncodePieces(bpe_, spaces_open_pieces_, part, vocabulary_.add_space_prefix && after_special, ids);
      } else {
        AppendWords(part, ids);
      }
      after_special = false;
    };
    const auto on_token = [&](int32_t id) {
      ids.push_back(id);
      after_special = true;
    };
    (options.parse_special ? with_special_ : without_special_).Split(text, on_text, on_token);
    if (options.add_special_tokens && vocabulary_.add_eos && eos().has_value()) ids.push_back(*eos());
    return ids;
  }

  std::string_view TokenBytes(int32_t id) const override {
    if (id < 0 || id >= vocab_size()) {
      throw UserError(
          {"token id", "not in the vocabulary", fmt::format("0 to {}", vocab_size() - 1), std::to_string(id), ""});
    }
    return vocabulary_.tokens[static_cast<size_t>(id)].bytes;
  }

  std::optional<int32_t> TokenId(std::string_view spelling) const override {
    const auto it = ids_.find(spelling);
    return it != ids_.end() ? std::optional<int32_t>(it->second) : std::nullopt;
  }

  bool IsSpecial(int32_t id) const override {
    return id >= 0 && id < vocab_size() && vocabulary_.tokens[static_cast<size_t>(id)].kind == BpeVocabulary::kSpecial;
  }

  std::unique_ptr<TokenDecoder> NewDecoder() const override {
    const auto drop = vocabulary_.spaces_as_pieces && vocabulary_.add_space_prefix ? LeadingSpaceDecoder::kFirstSpace
                                                                                   : LeadingSpaceDecoder::kNothing;
    return std::make_unique<LeadingSpaceDecoder>(*this, spells_space_, drop);
  }

 private:
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
  SpecialTokens with_special_, without_special_;
};

}  // namespace

std::unique_ptr<Tokenizer> MakeBpeTokenizer(BpeVocabulary vocabulary, Bpe bpe) {
  return std::make_unique<BpeTokenizer>(std::move(vocabulary), std::move(bpe));
}

}  // namespace taipan
