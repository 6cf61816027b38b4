// ReadFolderVocabulary: the files of a model folder as the vocabulary of a GGUF file.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "text/gguf/gguf_pre_tokenization.h"
#include "text/gguf/gguf_vocabulary_files.h"
#include "text/json_part.h"
#include "text/sentencepiece/sentencepiece_model.h"
#include "text/sentencepiece/sentencepiece_tokenizer.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"
#include "text/unicode/word_pattern.h"
#include "text/vocabulary_files.h"

namespace taipan {
namespace {

using enum GgufVocabulary::Type;

[[noreturn]] void Refuse(const std::string& where, const std::string& what, const std::string& expected,
                         const std::string& found) {
  throw UserError({where, "GGUF cannot hold " + what, expected, found});
}

// Sets the token of an id; ids that nothing sets stay "".
void SetToken(GgufVocabulary& v, size_t id, const std::string& text, int32_t type) {
  if (id >= v.tokens.size()) {
    v.tokens.resize(id + 1);
    v.types.resize(id + 1, kUnused);
  }
  v.tokens[id] = text;
  v.types[id] = type;
}

// Ids without a token, and those up to the rows of the model's embedding.
void FillHoles(GgufVocabulary& v, int64_t vocab_size, const std::string& where) {
  if (static_cast<int64_t>(v.tokens.size()) > vocab_size) {
    throw UserError({where, "the tokenizer has more tokens than the model", fmt::format("at most {}", vocab_size),
                     std::to_string(v.tokens.size())});
  }
  v.tokens.resize(static_cast<size_t>(vocab_size));
  v.types.resize(v.tokens.size(), kUnused);
  if (v.model == "llama") v.scores.resize(v.tokens.size(), 0);
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.tokens[i].empty()) SetToken(v, i, fmt::format("[PAD{}]", i), kUnused);
  }
}

// Whether a space goes before each stretch of text: the ByteLevel step does it, which must then come first.
bool AddsPrefixSpace(const JsonPart& part) {
  if (part.String("type") == "ByteLevel") return part.Bool("add_prefix_space");
  if (part.String("type") != "Sequence") return false;
  const JsonPart list = part.Member("pretokenizers");
  for (size_t i = 0; i < list.ListSize(); ++i) {
    if (!AddsPrefixSpace(list.Item(i))) continue;
    if (i == 0) return true;
    Refuse(list.Item(i).where(), "this pre-tokenizer", "add_prefix_space false behind other steps", "true");
  }
  return false;
}

// The expressions that cut a text into words, one after the other.
std::vector<std::string> Patterns(const JsonPart& part) {
  const std::string type = part.String("type");
  std::vector<std::string> patterns;
  if (type == "Sequence") {
    const JsonPart list = part.Member("pretokenizers");
    for (size_t i = 0; i < list.ListSize(); ++i) {
      const bool spells_bytes = i + 1 < list.ListSize() && list.Item(i).String("type") == "ByteLevel";
      if (spells_bytes) Refuse(list.Item(i).where(), "this pre-tokenizer", "ByteLevel at the end", "more behind it");
      for (std::string& pattern : Patterns(list.Item(i))) patterns.push_back(std::move(pattern));
    }
  } else if (type == "ByteLevel") {
    if (part.Bool("use_regex", true)) patterns.push_back(kGpt2Pattern);
  } else if (type == "Digits" && part.Bool("individual_digits")) {
    patterns.push_back(R"(\p{N})");
  } else if (type == "Split" && part.Member("pattern").Has("Regex") && part.String("behavior") == "Isolated" &&
             !part.Bool("invert")) {
    patterns.push_back(part.Member("pattern").String("Regex"));
  } else {
    Refuse(part.where(), "this pre-tokenizer", "ByteLevel, individual Digits, Split isolated by a Regex", type);
  }
  return patterns;
}

// The name under which llama.cpp cuts words as the file does; what it does in another way goes to `remark`.
std::string PreOf(const JsonPart& root, bool ignore_merges, bool any_merges, std::string& remark) {
  if (!root.Has("pre_tokenizer")) Refuse(root.where(), "this tokenizer", "ByteLevel as pre_tokenizer", "none");
  const std::vector<std::string> patterns = Patterns(root.Member("pre_tokenizer"));
  if (!any_merges && !ignore_merges) return "gpt-2";  // each byte is a token, however words are cut
  for (const PreTokenization& known : KnownPreTokenizations()) {
    if (known.ignore_merges != ignore_merges) continue;
    if (patterns == known.patterns) return known.names.front();
    if (patterns == known.original) {
      remark = known.remark;
      return known.names.front();
    }
  }
  Refuse(root.Member("pre_tokenizer").where(), "this pre-tokenizer", "the patterns of a model that llama.cpp knows",
         fmt::format("{}", fmt::join(patterns, " then ")).substr(0, 200));
}

std::string RemarkOnNormalizer(const JsonPart& root) {
  if (!root.Has("normalizer")) return "";
  const JsonPart part = root.Member("normalizer");
  if (part.String("type") != "NFC") Refuse(part.where(), "this normalizer", "none or NFC", part.String("type"));
  return "GGUF has no NFC: text that is not composed gets other ids";
}

void AddRemark(const std::string& text, FolderVocabulary& out) {
  out.remark += (out.remark.empty() ? "" : "; ") + text;
}

// Kept under a key of our own.
void AddFlags(const AddedToken& token, FolderVocabulary& out) {
  const bool strips = token.lstrip || token.rstrip;
  if (!strips && !token.single_word && !token.normalized) return;
  out.vocabulary.flags.push_back(token);
  const std::string name = DescribeJson(token.content);
  if (strips) AddRemark(fmt::format("llama.cpp takes no white space beside {}", name), out);
  if (token.single_word) AddRemark(fmt::format("llama.cpp finds {} inside words too", name), out);
}

void AddJsonTokens(const JsonPart& root, FolderVocabulary& out) {
  for (const auto& [text, id] : root.Member("model").Member("vocab").value().items()) {
    SetToken(out.vocabulary, id.get<size_t>(), text, kNormal);
  }
  if (!root.Has("added_tokens")) return;
  const JsonPart list = root.Member("added_tokens");
  for (size_t i = 0; i < list.ListSize(); ++i) {
    const JsonPart token = list.Item(i);
    SetToken(out.vocabulary, static_cast<size_t>(token.Member("id").Integer()), token.String("content"),
             token.Bool("special", false) ? kControl : kUserDefined);
    AddFlags(ReadAddedToken(token), out);
  }
}

void SetPrefixSpaceEach(FolderVocabulary& out) {
  out.vocabulary.space_prefix = "each";
  AddRemark("llama.cpp adds no space before a text", out);
}

// `path` was read by LoadTokenizer without complaint.
FolderVocabulary FromTokenizerJson(const std::string& path, const TokenizerConfig& config) {
  Json json = ParseJson(ReadFile(path), path);
  MergeIntoTokenizerJson(config, path, json);
  const JsonPart root(json, path);
  const JsonPart model = root.Member("model");
  FolderVocabulary out;
  GgufVocabulary& v = out.vocabulary;
  v.model = "gpt2";
  const JsonPart merges = model.Member("merges");
  v.pre = PreOf(root, model.Bool("ignore_merges", false), merges.ListSize() > 0, out.remark);
  if (!root.Has("decoder") || root.Member("decoder").String("type") != "ByteLevel") {
    Refuse(path, "this tokenizer", "ByteLevel as decoder", "another");
  }
  const std::string on_normalizer = RemarkOnNormalizer(root);
  if (!on_normalizer.empty()) out.remark += (out.remark.empty() ? "" : "; ");
  out.remark += on_normalizer;
  if (AddsPrefixSpace(root.Member("pre_tokenizer"))) SetPrefixSpaceEach(out);
  AddJsonTokens(root, out);
  for (const Json& merge : merges.value()) {
    v.merges.push_back(merge.is_array() ? fmt::format("{} {}", merge[0].get<std::string>(), merge[1].get<std::string>())
                                        : merge.get<std::string>());
  }
  return out;
}

FolderVocabulary FromSentencePiece(const std::string& path, const TokenizerConfig& config) {
  const SentencePieceModel model = ReadSentencePieceModel(ReadFile(path), path);
  const auto require = [&](bool holds, const char* what, const char* expected) {
    if (!holds) Refuse(path, what, expected, "");
  };
  require(model.algorithm == SentencePieceModel::kBpe, "this SentencePiece model", "one of the BPE type");
  require(model.byte_fallback, "this SentencePiece model", "one with byte_fallback");
  require(!model.maps_characters, "SentencePiece's normalization", "the identity");
  require(!model.remove_extra_whitespaces, "SentencePiece's normalization", "remove_extra_whitespaces off");
  require(model.escape_whitespaces, "SentencePiece's normalization", "escape_whitespaces on");
  require(!model.whitespace_as_suffix, "SentencePiece's normalization", "treat_whitespace_as_suffix off");
  FolderVocabulary out;
  GgufVocabulary& v = out.vocabulary;
  v.model = "llama";
  v.pre = "default";
  v.add_space_prefix = config.add_prefix_space.value_or(model.add_dummy_prefix);
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    if (piece.type == SentencePieceModel::kUnknown) v.unk = static_cast<int32_t>(v.tokens.size());
    v.scores.push_back(piece.score);
    SetToken(v, v.tokens.size(), piece.text, piece.type);
  }
  const bool user_defined = std::count(v.types.begin(), v.types.end(), kUserDefined) > 0;
  for (const AddedToken& token : AddedTokensOf(model, config)) {
    const auto at = static_cast<size_t>(token.id);
    const bool unknown = at < v.types.size() && v.types[at] == kUnknown;
    SetToken(v, at, token.content, unknown ? kUnknown : token.special ? kControl : kUserDefined);
    AddFlags(token, out);
  }
  v.scores.resize(v.tokens.size(), 0);
  if (!*v.add_space_prefix) return out;
  if (OptionsOf(config).prefix_first_only) {
    v.space_prefix = "first";
    AddRemark("llama.cpp adds a space behind special tokens where this tokenizer does not", out);
  } else if (user_defined) {
    AddRemark("llama.cpp adds a space behind user-defined tokens where SentencePiece does not", out);
  }
  return out;
}

FolderVocabulary FromGpt2Files(const std::string& directory, const TokenizerConfig& config) {
  const std::string vocab = directory + "/vocab.json", merges = directory + "/merges.txt";
  const NamedText merge_lines{ReadFile(merges), merges};
  const Gpt2Files files = ReadGpt2Files({ReadFile(vocab), vocab}, merge_lines, config);
  FolderVocabulary out;
  out.vocabulary.model = "gpt2";
  out.vocabulary.pre = "gpt-2";
  for (size_t i = 0; i < files.vocabulary.tokens.size(); ++i) {
    const BpeVocabulary::Token& token = files.vocabulary.tokens[i];
    SetToken(out.vocabulary, i, token.spelling,
             token.kind == BpeVocabulary::kSpecial     ? kControl
             : token.kind == BpeVocabulary::kAddedText ? kUserDefined
                                                       : kNormal);
  }
  for (const AddedToken& token : files.vocabulary.flags) AddFlags(token, out);
  if (config.add_prefix_space.value_or(false)) SetPrefixSpaceEach(out);
  for (const Gpt2Files::Merge& merge : files.merges) out.vocabulary.merges.emplace_back(merge.text);
  return out;
}

// BOS and EOS, and whether they go around a text.
void SetSpecialTokens(const Tokenizer& tokenizer, const TokenizerConfig& config, const std::string& where,
                      GgufVocabulary& v) {
  v.bos = tokenizer.bos();
  v.eos = tokenizer.eos();
  const std::vector<int32_t> plain = tokenizer.Encode("a"),
                             around = tokenizer.Encode("a", {.add_special_tokens = true});
  const auto begin = std::search(around.begin(), around.end(), plain.begin(), plain.end());
  const std::vector<int32_t> before(around.begin(), begin);
  const std::vector<int32_t> after(begin + static_cast<ptrdiff_t>(plain.size()), around.end());
  const auto only = [](const std::vector<int32_t>& ids, std::optional<int32_t> id) {
    return ids.empty() || (ids.size() == 1 && ids[0] == id);
  };
  if (!only(before, v.bos) || !only(after, v.eos)) {
    Refuse(where, "what this tokenizer puts around a text", "BOS before it, EOS behind it",
           fmt::format("the ids {}", fmt::join(around, ", ")));
  }
  v.add_bos = !before.empty();
  v.add_eos = !after.empty();
  const auto unk = config.special_tokens.find("unk_token");
  if (!v.unk && unk != config.special_tokens.end()) v.unk = tokenizer.TokenId(unk->second);
  for (const int32_t id : config.eos_ids) v.AddStop(id);
}

}  // namespace

FolderVocabulary ReadFolderVocabulary(const std::string& directory, int64_t vocab_size) {
  const std::string json = directory + "/tokenizer.json", model = directory + "/tokenizer.model";
  const TokenizerConfig config = LoadTokenizerConfig(directory);
  const bool pieces = PathExists(model) && LooksLikeSentencePiece(ReadFile(model));
  const std::string path = pieces ? model : directory;
  const std::unique_ptr<Tokenizer> tokenizer = LoadTokenizer(path);
  if (tokenizer == nullptr) throw UserError(directory, "the folder has no tokenizer");
  if (!pieces && !PathExists(json) && PathExists(model)) {
    Refuse(model, "this kind of tokenizer", "a tokenizer.json beside it", "a tiktoken file alone");
  }
  FolderVocabulary out = pieces             ? FromSentencePiece(model, config)
                         : PathExists(json) ? FromTokenizerJson(json, config)
                                            : FromGpt2Files(directory, config);
  FillHoles(out.vocabulary, vocab_size, directory);
  SetSpecialTokens(*tokenizer, config, directory, out.vocabulary);
  out.vocabulary.chat_template = config.chat_template;
  MakeGgufTokenizer(out.vocabulary, directory);  // refuses what does not fit together
  return out;
}

}  // namespace taipan
