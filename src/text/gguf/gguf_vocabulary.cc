#include "text/gguf/gguf_vocabulary.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "text/bpe/bpe_tokenizer.h"
#include "text/bpe/merge_list.h"
#include "text/gguf/gguf_pre_tokenization.h"
#include "text/one_line.h"
#include "text/sentencepiece/sentencepiece_bpe.h"

namespace taipan {
namespace {

using Kind = BpeVocabulary::Kind;
using enum GgufVocabulary::Type;

void CheckLists(const GgufVocabulary& v, const std::string& where) {
  const auto refuse_size = [&](const char* list, size_t size) {
    throw UserError({where, fmt::format("tokenizer.ggml.{} has another length than the tokens", list),
                     std::to_string(v.tokens.size()), std::to_string(size)});
  };
  if (v.tokens.empty()) throw UserError(where, "tokenizer.ggml.tokens is missing or empty");
  if (!v.types.empty() && v.types.size() != v.tokens.size()) refuse_size("token_type", v.types.size());
  if (v.model == "llama" && v.scores.size() != v.tokens.size()) refuse_size("scores", v.scores.size());
  for (const auto& [name, id] :
       {std::pair("bos", v.bos), std::pair("eos", v.eos), std::pair("unknown", v.unk), std::pair("eot", v.eot)}) {
    if (id.has_value() && (*id < 0 || *id >= static_cast<int64_t>(v.tokens.size()))) {
      throw UserError({where, fmt::format("tokenizer.ggml.{}_token_id is not in the vocabulary", name),
                       fmt::format("0 to {}", v.tokens.size() - 1), std::to_string(*id)});
    }
  }
}

void CheckOwnKeys(const GgufVocabulary& v, const std::string& where) {
  for (const int32_t id : v.stops) {
    if (id >= 0 && id < static_cast<int64_t>(v.tokens.size())) continue;
    throw UserError({where, "tokenizer.taipan.eos_token_ids: not in the vocabulary",
                     fmt::format("0 to {}", v.tokens.size() - 1), std::to_string(id)});
  }
  if (v.space_prefix.empty() || v.space_prefix == "first" || v.space_prefix == "each") return;
  throw UserError({where, "tokenizer.taipan.space_prefix is unknown", "first or each", OneLine(v.space_prefix)});
}

// Tokens with their kinds; the bytes of the text tokens are left to the caller.
BpeVocabulary WithKinds(const GgufVocabulary& v, const std::string& where) {
  BpeVocabulary vocabulary;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const int type = v.type_of(i);
    if (type < kNormal || type > kByte) {
      throw UserError({where, fmt::format("tokenizer.ggml.token_type: an unknown type of token {}", i), "1 to 6",
                       std::to_string(type)});
    }
    const bool special = type == kControl || type == kUnknown;
    const Kind kind = special ? Kind::kSpecial : type == kUserDefined ? Kind::kAddedText : Kind::kText;
    vocabulary.tokens.push_back({v.tokens[i], kind == Kind::kText ? "" : v.tokens[i], kind});
  }
  vocabulary.flags = v.flags;
  vocabulary.bos = v.bos;
  vocabulary.eos = v.eos;
  vocabulary.add_eos = v.add_eos.value_or(false);
  return vocabulary;
}

std::unique_ptr<Tokenizer> MakeByteLevel(const GgufVocabulary& v, const std::string& where) {
  const PreTokenization& pre = FindPreTokenization(v.pre, where);
  BpeVocabulary vocabulary = WithKinds(v, where);
  MergeList merges(vocabulary, where);
  for (size_t i = 0; i < v.merges.size(); ++i) {
    merges.Add(v.merges[i], fmt::format("{}: tokenizer.ggml.merges, entry {}", where, i));
  }
  for (const std::string& pattern : pre.patterns) vocabulary.patterns.emplace_back(pattern, where);
  vocabulary.add_bos = v.add_bos.value_or(pre.add_bos);
  vocabulary.add_space_prefix = v.space_prefix == "each";
  Bpe bpe = merges.Build(vocabulary, {.ignore_merges = pre.ignore_merges});
  return MakeBpeTokenizer(std::move(vocabulary), std::move(bpe));
}

bool SpellsByte(const std::string& piece) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  return piece.size() == 6 && piece.starts_with("<0x") && piece[5] == '>' && kHex.find(piece[3]) != kHex.npos &&
         kHex.find(piece[4]) != kHex.npos;
}

// The scores of the tokens that merges give.
std::vector<std::optional<float>> Scores(const GgufVocabulary& v, const std::string& where) {
  std::vector<std::optional<float>> scores(v.tokens.size());
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (std::isnan(v.scores[i])) throw UserError(where, fmt::format("tokenizer.ggml.scores: entry {} is NaN", i));
    if (v.type_of(i) == kNormal || v.type_of(i) == kUserDefined) scores[i] = v.scores[i];
  }
  return scores;
}

std::unique_ptr<Tokenizer> MakeSentencePieceLike(const GgufVocabulary& v, const std::string& where) {
  BpeVocabulary vocabulary = WithKinds(v, where);
  std::vector<std::string> tokens;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const int type = v.type_of(i);
    if (type == kByte && !SpellsByte(v.tokens[i])) {
      throw UserError(where, fmt::format("tokenizer.ggml.tokens: byte token {} is not spelled <0x00> to <0xFF>", i));
    }
    if (v.tokens[i].size() > Bpe::kMaxRankedToken) {
      throw UserError({where, fmt::format("tokenizer.ggml.tokens: token {} is too long", i),
                       fmt::format("at most {} bytes", Bpe::kMaxRankedToken), std::to_string(v.tokens[i].size())});
    }
    if (type == kByte) {
      vocabulary.tokens[i].bytes = static_cast<char>(std::stoi(v.tokens[i].substr(3, 2), nullptr, 16));
    } else if (vocabulary.tokens[i].kind != Kind::kSpecial) {
      vocabulary.tokens[i].bytes = PieceText(v.tokens[i]);
    }
    tokens.push_back(vocabulary.tokens[i].kind == Kind::kSpecial || type == kUnused ? "" : v.tokens[i]);
  }
  vocabulary.spaces_as_pieces = true;
  vocabulary.add_space_prefix = v.add_space_prefix.value_or(true);
  vocabulary.prefix_first_only = v.space_prefix == "first";
  vocabulary.add_bos = v.add_bos.value_or(true);
  Bpe bpe = Bpe::FromRanks(std::move(tokens), RanksByScore(Scores(v, where)),
                           {.characters = true, .byte_fallback = true, .unknown = v.unk.value_or(-1)});
  return MakeBpeTokenizer(std::move(vocabulary), std::move(bpe));
}

}  // namespace

std::unique_ptr<Tokenizer> MakeGgufTokenizer(const GgufVocabulary& vocabulary, const std::string& where) {
  CheckLists(vocabulary, where);
  CheckOwnKeys(vocabulary, where);
  if (vocabulary.model == "gpt2") return MakeByteLevel(vocabulary, where);
  if (vocabulary.model == "llama") return MakeSentencePieceLike(vocabulary, where);
  throw UserError({where, "tokenizer.ggml.model is not supported", "gpt2 or llama", OneLine(vocabulary.model)});
}

void GgufVocabulary::AddStop(int32_t id) {
  const bool fits = id >= 0 && static_cast<size_t>(id) < tokens.size();
  if (!fits || id == eos || id == eot || std::count(stops.begin(), stops.end(), id) > 0) return;
  if (eot) {
    stops.push_back(id);
  } else {
    eot = id;
  }
}

std::map<std::string, std::string> SpecialTokenTexts(const GgufVocabulary& v) {
  std::map<std::string, std::string> texts;
  const auto add = [&](const char* name, std::optional<int32_t> id) {
    const bool known = id.has_value() && *id >= 0 && static_cast<size_t>(*id) < v.tokens.size();
    if (known) texts[name] = v.tokens[static_cast<size_t>(*id)];
  };
  add("bos_token", v.bos);
  add("eos_token", v.eos);
  add("unk_token", v.unk);
  return texts;
}

}  // namespace taipan
