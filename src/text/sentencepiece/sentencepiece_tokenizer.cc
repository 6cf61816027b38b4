#include "text/sentencepiece/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <cmath>
#include <limits>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "text/cut_places.h"
#include "text/leading_space_decoder.h"
#include "text/one_line.h"
#include "text/sentencepiece/sentencepiece_bpe.h"
#include "text/sentencepiece/sentencepiece_model.h"
#include "text/special_tokens.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

using Model = SentencePieceModel;

std::string BytesOf(const Model::Piece& piece, const Model& model) {
  if (piece.type == Model::kControl) return piece.text;
  if (piece.type == Model::kUnknown) return model.unknown_surface;
  if (piece.type == Model::kByte) return {static_cast<char>(std::stoi(piece.text.substr(3, 2), nullptr, 16))};
  return PieceText(piece.text);
}

// Every character of a piece that merges give is a piece by itself: then the library too has no other symbols.
bool CharactersArePieces(const Model& model) {
  std::set<std::string_view> pieces;
  for (const Model::Piece& piece : model.pieces) {
    if (piece.type == Model::kNormal) pieces.insert(piece.text);
  }
  for (std::string_view rest : std::vector<std::string_view>(pieces.begin(), pieces.end())) {
    while (!rest.empty()) {
      const size_t size = Utf8CharacterSize(rest);
      if (size == 0 || pieces.count(rest.substr(0, size)) == 0) return false;
      rest.remove_prefix(size);
    }
  }
  return true;
}

// Encoding by our own merges, several times faster than the library's, for models where merging by score is all that
// the library does with valid UTF-8 between user-defined pieces (Llama 2's and Mistral's are such).
std::optional<Bpe> PlainBpe(const Model& model) {
  const bool plain = model.algorithm == Model::kBpe && model.byte_fallback && model.escape_whitespaces &&
                     !model.maps_characters && !model.remove_extra_whitespaces && !model.whitespace_as_suffix;
  if (!plain || !CharactersArePieces(model)) return std::nullopt;
  std::vector<std::string> tokens;
  std::vector<std::optional<float>> scores;
  size_t bytes = 0;
  for (const Model::Piece& piece : model.pieces) {
    const bool normal = piece.type == Model::kNormal, byte = piece.type == Model::kByte;
    const bool special = piece.type == Model::kControl || piece.type == Model::kUnknown;
    const bool user_defined = piece.type == Model::kUserDefined;
    if (!normal && !byte && !special && !user_defined) return std::nullopt;
    const bool has_space = piece.text.find(' ') != piece.text.npos || piece.text.find(kSpacePiece) != piece.text.npos;
    if (user_defined && (has_space || ValidUtf8Size(piece.text) != piece.text.size())) return std::nullopt;
    // A text's character that spells a special token is that token to the library.
    if (special && Utf8CharacterSize(piece.text) == piece.text.size()) return std::nullopt;
    if (std::isnan(piece.score) || piece.text.size() > Bpe::kMaxRankedToken) return std::nullopt;
    bytes += byte ? 1 : 0;
    tokens.push_back(normal || byte ? piece.text : "");
    scores.push_back(normal ? std::optional<float>(piece.score) : std::nullopt);
  }
  if (bytes != 256) return std::nullopt;
  return Bpe::FromRanks(std::move(tokens), RanksByScore(scores), {.characters = true, .byte_fallback = true});
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string content, const std::string& where, const SentencePieceOptions& options)
      : where_(where),
        model_(ReadSentencePieceModel(content, where)),
        options_(options),
        added_(AddedTokensOf(model_, options.config), nullptr) {
    if (options.add_prefix_space.value_or(model_.add_dummy_prefix) != model_.add_dummy_prefix) {
      model_.add_dummy_prefix = *options.add_prefix_space;
      content = WithDummyPrefix(std::move(content), model_.add_dummy_prefix);
    }
    Load(content, processor_);
    if (options.prefix_first_only) Load(WithDummyPrefix(content, false), without_prefix_);
    std::vector<std::pair<std::string, int32_t>> user_defined;
    for (size_t i = 0; i < model_.pieces.size(); ++i) {
      const Model::Piece& piece = model_.pieces[i];
      bytes_.push_back(BytesOf(piece, model_));
      const bool special = piece.type == Model::kControl || piece.type == Model::kUnknown;
      const bool text = !special && piece.type != Model::kByte;
      spells_space_.push_back(text && piece.text.starts_with(kSpacePiece));
      if (piece.type == Model::kUserDefined) user_defined.emplace_back(piece.text, static_cast<int32_t>(i));
    }
    for (const AddedToken& token : added_.tokens()) {
      const auto at = static_cast<size_t>(token.id);
      if (at < model_.pieces.size() && model_.pieces[at].text == token.content) continue;
      bytes_.resize(std::max(bytes_.size(), at + 1));
      spells_space_.resize(bytes_.size(), false);
      bytes_[at] = token.content;
      spells_space_[at] = false;
    }
    user_defined_ = SpecialTokens(std::move(user_defined));
    bpe_ = PlainBpe(model_);
    spaces_open_pieces_ = bpe_.has_value() && SpacesOpenPieces(*bpe_);
    if (processor_.bos_id() >= 0) set_bos(processor_.bos_id());
    if (processor_.eos_id() >= 0) set_eos(processor_.eos_id());
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(bytes_.size()); }

  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    if (options.add_special_tokens && options.begins && options_.add_bos && bos().has_value()) ids.push_back(*bos());
    added_.Split(text, options.parse_special, [&](int32_t id, std::string_view part) {
      if (id >= 0) {
        ids.push_back(id);
      } else {
        const bool first = part.data() == text.data();
        AppendIds(part,
                  first && !options.begins               ? Prefix::kBehindCut
                  : first || !options_.prefix_first_only ? Prefix::kSpace
                                                         : Prefix::kNone,
                  ids);
      }
    });
    if (options.add_special_tokens && options.ends && options_.add_eos && eos().has_value()) ids.push_back(*eos());
    return ids;
  }

  // Only where our own merges encode: the library's best path through a text (unigram) sums scores from its beginning.
  size_t CutIn(std::string_view text, const EncodeOptions& options) const override {
    if (!bpe_.has_value()) return 0;
    return LastCut(text, [&](size_t at) {
      return added_.AllowsCut(text, at, options.parse_special, [&](std::string_view part, size_t cut) {
        return spaces_open_pieces_ || bpe_->AllowsCut(fmt::format("{}{}", part[cut - 1], kSpacePiece), 1);
      });
    });
  }

  std::string_view TokenBytes(int32_t id) const override {
    if (id < 0 || id >= vocab_size()) {
      throw UserError(
          {"token id", "not in the vocabulary", fmt::format("0 to {}", vocab_size() - 1), std::to_string(id)});
    }
    return bytes_[static_cast<size_t>(id)];
  }

  std::optional<int32_t> TokenId(std::string_view spelling) const override {
    if (const AddedToken* token = added_.Find(spelling)) return token->id;
    const int id = processor_.PieceToId({spelling.data(), spelling.size()});
    return IsPiece(id) && Piece(id).text == spelling ? std::optional<int32_t>(id) : std::nullopt;
  }

  bool IsSpecial(int32_t id) const override {
    const AddedToken* token = added_.Find(id);
    return token != nullptr && token->special && !(IsPiece(id) && Piece(id).type == Model::kUnknown);
  }

  bool IsAdded(int32_t id) const override {
    return added_.Find(id) != nullptr || (IsPiece(id) && Piece(id).type == Model::kUserDefined);
  }

  std::unique_ptr<TokenDecoder> NewDecoder() const override {
    const bool dropped = (model_.add_dummy_prefix || model_.remove_extra_whitespaces) && !model_.whitespace_as_suffix;
    const auto drop = !dropped                          ? LeadingSpaceDecoder::kNothing
                      : model_.remove_extra_whitespaces ? LeadingSpaceDecoder::kAllSpaces
                                                        : LeadingSpaceDecoder::kFirstSpace;
    return std::make_unique<LeadingSpaceDecoder>(*this, spells_space_, drop);
  }

 private:
  using Processor = sentencepiece::SentencePieceProcessor;

  [[noreturn]] void Refuse(const std::string& found) const {
    throw UserError({.where = where_, .problem = "SentencePiece refuses this model", .found = OneLine(found)});
  }

  void Load(const std::string& content, Processor& processor) const {
    const auto status = processor.LoadFromSerializedProto(content);
    if (!status.ok()) Refuse(status.message());
    if (processor.GetPieceSize() != static_cast<int>(model_.pieces.size())) Refuse("a vocabulary of two sizes");
  }

  bool IsPiece(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < model_.pieces.size(); }
  const Model::Piece& Piece(int32_t id) const { return model_.pieces[static_cast<size_t>(id)]; }

  enum class Prefix { kSpace, kNone, kBehindCut };  // where the model puts one; kBehindCut: the text opens with a space

  void AppendIds(std::string_view text, Prefix prefix, std::vector<int32_t>& ids) const {
    if (bpe_.has_value() && ValidUtf8Size(text) == text.size()) {
      return AppendOwnIds(text, prefix == Prefix::kSpace && model_.add_dummy_prefix, ids);
    }
    if (prefix == Prefix::kBehindCut && model_.add_dummy_prefix) text.remove_prefix(1);  // the library's stands for it
    // The library counts the bytes of its normalised text, up to three for each of the input's, in 32 bits.
    if (text.size() > std::numeric_limits<int32_t>::max() / 8) {
      throw UserError(where_, "a single text of more than 256 MiB cannot be encoded with SentencePiece");
    }
    std::vector<int> pieces;
    const auto status =
        (prefix == Prefix::kNone ? without_prefix_ : processor_).Encode({text.data(), text.size()}, &pieces);
    if (!status.ok()) Refuse(status.message());
    ids.insert(ids.end(), pieces.begin(), pieces.end());
  }

  void AppendOwnIds(std::string_view text, bool space_before, std::vector<int32_t>& ids) const {
    const auto on_text = [&](std::string_view part) {
      EncodePieces(*bpe_, spaces_open_pieces_, part, space_before, ids);
      space_before = false;
    };
    user_defined_.Split(text, on_text, [&](int32_t id) {
      if (space_before) on_text("");
      ids.push_back(id);
    });
  }

  std::string where_;
  Model model_;
  SentencePieceOptions options_;
  AddedTokens added_;
  Processor processor_, without_prefix_;  // the latter only for prefix_first_only
  std::optional<Bpe> bpe_;
  bool spaces_open_pieces_ = false;
  std::vector<std::string> bytes_;
  std::vector<bool> spells_space_;  // a text that begins with a space
  SpecialTokens user_defined_;
};

}  // namespace

bool LooksLikeSentencePiece(std::string_view content) {
  // Field 1, a message of some length, whose first field is again 1 (the piece's text). A tiktoken line has only
  // printable characters.
  if (content.size() < 4 || content[0] != '\x0A') return false;
  size_t i = 1;
  while (i < content.size() && i < 6 && static_cast<uint8_t>(content[i]) >= 0x80) ++i;
  return i + 1 < content.size() && content[i + 1] == '\x0A';
}

// What transformers does: its Llama class puts no space behind added tokens unless `legacy` says so.
SentencePieceOptions OptionsOf(const TokenizerConfig& config) {
  const bool llama = config.tokenizer_class.find("Llama") != std::string::npos;  // adds BOS unless told otherwise
  return {.add_bos = config.add_bos_token.value_or(llama),
          .add_eos = config.add_eos_token.value_or(false),
          .add_prefix_space = config.add_prefix_space,
          .prefix_first_only = !config.legacy.value_or(!llama),
          .config = config};
}

std::vector<AddedToken> AddedTokensOf(const SentencePieceModel& model, const TokenizerConfig& config) {
  FileTokens file;
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const Model::Piece& piece = model.pieces[i];
    const auto id = static_cast<int32_t>(i);
    ids.try_emplace(piece.text, id);
    if (piece.type != Model::kControl && piece.type != Model::kUnknown) continue;
    file.added.push_back({.id = id, .content = piece.text, .special = true, .normalized = false});
  }
  file.find = [&](const std::string& content) {
    const auto it = ids.find(content);
    return it != ids.end() ? std::optional(it->second) : std::nullopt;
  };
  file.size = static_cast<int64_t>(model.pieces.size());
  return MergeAddedTokens(config, file);
}

std::unique_ptr<Tokenizer> MakeSentencePieceTokenizer(const std::string& content, const std::string& where,
                                                      const SentencePieceOptions& options) {
  return std::make_unique<SentencePieceTokenizer>(content, where, options);
}

}  // namespace taipan
