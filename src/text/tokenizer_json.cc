#include "text/tokenizer_json.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "base/error.h"
#include "text/added_tokens.h"
#include "text/bpe/bpe.h"
#include "text/cut_places.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/unicode/byte_alphabet.h"

namespace taipan {
namespace {

constexpr int64_t kMaxIdGap = 65536;  // ids that no entry has; bounds what a small file can allocate

struct Vocabulary {
  std::vector<std::string> spellings;  // by id, "" where there is none
  std::unordered_map<std::string, int32_t> ids;

  void Add(const std::string& spelling, int32_t id, const JsonPart& part) {
    const auto at = static_cast<size_t>(id);
    if (at >= spellings.size()) spellings.resize(at + 1);
    const auto known = ids.find(spelling);
    if (known != ids.end() && known->second == id) return;  // an added token that the vocabulary has too
    if (known != ids.end()) {
      throw UserError({part.where(), "a token has two ids", std::to_string(known->second),
                       fmt::format("{} for {}", id, DescribeJson(Json(spelling)))});
    }
    if (!spellings[at].empty()) {
      throw UserError({part.where(), fmt::format("two tokens have the id {}", id), "one",
                       DescribeJson(Json(spellings[at])) + " and " + DescribeJson(Json(spelling))});
    }
    ids.emplace(spelling, id);
    spellings[at] = spelling;
  }
};

int32_t ReadId(const JsonPart& part, size_t entries) {
  return static_cast<int32_t>(part.Integer(0, static_cast<int64_t>(entries) + kMaxIdGap));
}

Vocabulary ReadVocabulary(const JsonPart& model) {
  const JsonPart part = model.Member("vocab");
  part.RequireObject();
  Vocabulary vocabulary;
  vocabulary.ids.reserve(part.value().size());
  for (const auto& [spelling, id] : part.value().items()) {
    if (spelling.empty()) part.Refuse("a token is the empty text", "texts");
    vocabulary.Add(spelling, ReadId(JsonPart(id, part.where()), part.value().size()), part);
  }
  return vocabulary;
}

// "left right", or a list of the two.
std::pair<std::string, std::string> ReadMerge(const JsonPart& part) {
  if (part.value().is_array() && part.value().size() == 2) return {part.Item(0).String(), part.Item(1).String()};
  const std::string text = part.String();
  const size_t space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos) {
    part.Refuse("wrong merge", "two tokens with a space between them, or a list of two");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

std::vector<BpeMerge> ReadMerges(const JsonPart& model, const Vocabulary& vocabulary) {
  const JsonPart list = model.Member("merges");
  std::vector<BpeMerge> merges;
  merges.reserve(list.ListSize());
  for (size_t i = 0; i < list.ListSize(); ++i) {
    const auto [left, right] = ReadMerge(list.Item(i));
    const auto id = [&](const std::string& token) {
      const auto it = vocabulary.ids.find(token);
      if (it != vocabulary.ids.end()) return it->second;
      throw UserError({.where = list.Item(i).where(),
                       .problem = "the merge has a token that the vocabulary lacks",
                       .found = DescribeJson(Json(token))});
    };
    merges.push_back({.left = id(left), .right = id(right), .result = id(left + right)});
  }
  return merges;
}

// Keys of the model that change what we do, and those that must be off.
BpeSettings ReadSettings(const JsonPart& model, const Vocabulary& vocabulary) {
  model.RequireKeys({"type", "vocab", "merges", "dropout", "unk_token", "continuing_subword_prefix",
                     "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges"});
  if (model.Has("type") && model.String("type") != "BPE") {
    model.Member("type").Refuse("this model is not supported", "BPE");
  }
  if (model.Has("dropout") && model.Member("dropout").value() != 0) {
    model.Member("dropout").Refuse("dropout is not supported: ids would be random", "null");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model.Has(key) && !model.String(key).empty()) model.Member(key).Refuse("this is not supported", "null");
  }
  BpeSettings settings{.ignore_merges = model.Bool("ignore_merges", false),
                       .byte_fallback = model.Bool("byte_fallback", false),
                       .fuse_unknown = model.Bool("fuse_unk", false)};
  if (model.Has("unk_token")) {
    const auto unknown = vocabulary.ids.find(model.String("unk_token"));
    if (unknown == vocabulary.ids.end()) model.Member("unk_token").Refuse("not in the vocabulary", "a token");
    settings.unknown = unknown->second;
  }
  return settings;
}

Bpe ReadBpe(const JsonPart& model, const Vocabulary& vocabulary, bool byte_level) {
  BpeSettings settings = ReadSettings(model, vocabulary);
  const std::vector<BpeMerge> merges = ReadMerges(model, vocabulary);
  std::vector<std::string> tokens = vocabulary.spellings;
  settings.characters = !byte_level;
  if (byte_level) {
    settings.byte_fallback = false;  // words hold only characters that stand for bytes
    for (std::string& token : tokens) token = UnspellBytes(token).value_or("");
  }
  return Bpe::FromMerges(std::move(tokens), merges, settings);
}

std::vector<AddedToken> ReadAddedTokens(const JsonPart& root, Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  if (!root.Has("added_tokens")) return tokens;
  const JsonPart list = root.Member("added_tokens");
  const size_t entries = vocabulary.ids.size() + list.ListSize();
  for (size_t i = 0; i < list.ListSize(); ++i) {
    const JsonPart item = list.Item(i);
    AddedToken token = ReadAddedToken(item);
    if (token.content.empty()) item.Refuse("the token is the empty text", "some text");
    ReadId(item.Member("id"), entries);
    vocabulary.Add(token.content, token.id, item);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

class JsonTokenizer : public Tokenizer {
 public:
  JsonTokenizer(const JsonPart& root, Vocabulary vocabulary)
      : normalizer_(root.Has("normalizer") ? ReadNormalizer(root.Member("normalizer")) : nullptr),
        pre_tokenizer_(root.Has("pre_tokenizer") ? PreTokenizer(root.Member("pre_tokenizer")) : PreTokenizer()),
        bpe_(ReadBpe(root.Member("model"), vocabulary, pre_tokenizer_.byte_level())),
        added_(ReadAddedTokens(root, vocabulary), normalizer_.get()),
        decoder_(root.Member("decoder")),
        spellings_(std::move(vocabulary.spellings)),
        ids_(std::move(vocabulary.ids)) {
    if (root.Has("post_processor")) post_ = ReadPostProcessor(root.Member("post_processor"), vocab_size());
    if (!post_.before.empty()) set_bos(post_.before.front());
    if (!post_.after.empty()) set_eos(post_.after.back());
    bytes_.reserve(spellings_.size());
    for (const std::string& s : spellings_) bytes_.push_back(decoder_.TokenBytes(s, /*first=*/false));
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(spellings_.size()); }

  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    if (options.add_special_tokens && options.begins) ids = post_.before;
    const auto encode = [&](std::string_view valid) {
      const bool first = valid.data() == text.data();
      EncodeValid({valid, first && options.begins}, first && !options.begins, options.parse_special, ids);
    };
    for (size_t at = 0; at < text.size();) {
      const size_t valid = ValidUtf8Size(text.substr(at));
      size_t end = at + valid;
      if (valid > 0) encode(text.substr(at, valid));
      while (end < text.size() && Utf8CharacterSize(text.substr(end)) == 0) ++end;
      EncodeIllFormed(text.substr(at + valid, end - at - valid), ids);
      at = end;
    }
    if (options.add_special_tokens && options.ends) ids.insert(ids.end(), post_.after.begin(), post_.after.end());
    return ids;
  }

  size_t CutIn(std::string_view text, const EncodeOptions& options) const override {
    if (normalizer_ != nullptr && !normalizer_->AllowsCuts()) return 0;
    return LastCut(text, [&](size_t at) { return AllowsCut(text, at, options); });
  }

  std::string_view TokenBytes(int32_t id) const override {
    CheckId(id);
    return bytes_[static_cast<size_t>(id)];
  }

  std::optional<int32_t> TokenId(std::string_view spelling) const override {
    const auto it = ids_.find(std::string(spelling));
    return it == ids_.end() ? std::nullopt : std::optional(it->second);
  }

  bool IsSpecial(int32_t id) const override {
    const AddedToken* token = added_.Find(id);
    return token != nullptr && token->special;
  }

  bool IsAdded(int32_t id) const override { return added_.Find(id) != nullptr; }

  std::unique_ptr<TokenDecoder> NewDecoder() const override { return std::make_unique<JsonDecoder>(*this); }

 private:
  class JsonDecoder : public TokenDecoder {
   public:
    explicit JsonDecoder(const JsonTokenizer& tokenizer) : tokenizer_(tokenizer), stream_(tokenizer.decoder_) {}
    void Append(int32_t id, std::string& bytes) override {
      const std::string_view token = tokenizer_.TokenBytes(id);
      const std::string& spelling = tokenizer_.spellings_[static_cast<size_t>(id)];
      if (spelling.empty()) return;
      if (first_ && tokenizer_.decoder_.first_differs()) {
        stream_.Append(tokenizer_.decoder_.TokenBytes(spelling, true), bytes);
      } else {
        stream_.Append(token, bytes);
      }
      first_ = false;
    }
    void Flush(std::string& bytes) override {
      stream_.Flush(bytes);
      first_ = true;
    }

   private:
    const JsonTokenizer& tokenizer_;
    Decoder::Stream stream_;
    bool first_ = true;
  };

  void CheckId(int32_t id) const {
    if (id >= 0 && id < vocab_size()) return;
    throw UserError(
        {"token id", "not in the vocabulary", fmt::format("0 to {}", vocab_size() - 1), std::to_string(id)});
  }

  // As EncodeValid goes, from the whole down to the word.
  bool AllowsCut(std::string_view text, size_t at, const EncodeOptions& options) const {
    const CutCheck in_word = [&](std::string_view word, size_t cut) { return bpe_.AllowsCut(word, cut); };
    const CutCheck in_plain = [&](std::string_view part, size_t cut) {
      return pre_tokenizer_.AllowsCut(part, cut, in_word);
    };
    const CutCheck in_normalized = [&](std::string_view part, size_t cut) {
      return added_.AllowsCut(AddedTokens::Kind::kNormalized, part, cut, options.parse_special, in_plain);
    };
    const CutCheck in_part = [&](std::string_view part, size_t cut) {
      if (normalizer_ == nullptr) return in_normalized(part, cut);
      std::string whole, first;
      const std::string_view normalized = normalizer_->Apply(part, whole);
      const std::string_view before = normalizer_->Apply(part.substr(0, cut), first);
      return !before.empty() && before.size() < normalized.size() && normalized.starts_with(before) &&
             in_normalized(normalized, before.size());
    };
    const std::string_view run = ValidRunAround(text, at);
    return added_.AllowsCut(AddedTokens::Kind::kPlain, run, at - static_cast<size_t>(run.data() - text.data()),
                            options.parse_special, in_part);
  }

  // behind_cut: the text begins where another was cut.
  void EncodeValid(const Piece& text, bool behind_cut, bool parse_special, std::vector<int32_t>& ids) const {
    const PieceSink words = [&](const Piece& word) { bpe_.Encode(word.text, ids); };
    const auto found = [&](int32_t id) { ids.push_back(id); };
    const auto plain = [&](const Piece& piece) {
      if (!piece.text.empty()) pre_tokenizer_.Split(piece, words);
    };
    const auto normalize = [&](const Piece& piece) {
      std::string buffer;
      const bool cut = behind_cut && piece.text.data() == text.text.data();
      const std::string_view normalized = normalizer_ == nullptr ? piece.text
                                          : cut                  ? normalizer_->ApplyBehindCut(piece.text, buffer)
                                                                 : normalizer_->Apply(piece.text, buffer);
      if (added_.empty(AddedTokens::Kind::kNormalized)) {
        plain({normalized, piece.first});
        return;
      }
      added_.Split(AddedTokens::Kind::kNormalized, normalized, parse_special, [&](int32_t id, std::string_view part) {
        id >= 0 ? found(id) : plain({part, piece.first && part.data() == normalized.data()});
      });
    };
    if (added_.empty(AddedTokens::Kind::kPlain)) {
      normalize(text);
      return;
    }
    added_.Split(AddedTokens::Kind::kPlain, text.text, parse_special, [&](int32_t id, std::string_view part) {
      id >= 0 ? found(id) : normalize({part, text.first && part.data() == text.text.data()});
    });
  }

  void EncodeIllFormed(std::string_view bytes, std::vector<int32_t>& ids) const {
    for (const char c : bytes) {
      const int32_t id = bpe_.FindByte(static_cast<uint8_t>(c));
      if (id >= 0) {
        ids.push_back(id);
      } else {
        EncodeValid({"\uFFFD", false}, false, false, ids);
      }
    }
  }

  std::unique_ptr<Normalizer> normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  AddedTokens added_;
  Decoder decoder_;
  PostProcessor post_;
  std::vector<std::string> spellings_;  // by id
  std::vector<std::string> bytes_;      // by id: TokenBytes
  std::unordered_map<std::string, int32_t> ids_;
};

}  // namespace

std::unique_ptr<Tokenizer> ReadTokenizerJson(const Json& json, const std::string& where) {
  const JsonPart root(json, where);
  root.RequireKeys({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                    "decoder", "model"});
  return std::make_unique<JsonTokenizer>(root, ReadVocabulary(root.Member("model")));
}

}  // namespace taipan
