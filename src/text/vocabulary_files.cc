#include "text/vocabulary_files.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/error.h"
#include "base/fields.h"
#include "text/bpe/bpe_tokenizer.h"
#include "text/bpe/merge_list.h"
#include "text/unicode/byte_alphabet.h"

namespace taipan {
namespace {

using Kind = BpeVocabulary::Kind;

constexpr const char* kGpt2EndOfText = "<|endoftext|>";
constexpr size_t kLlama3Ranks = 128000, kLlama3Specials = 256;

// The lines of a text, without their ends.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  bool Next(std::string_view* line) {
    if (rest_.empty()) return false;
    const size_t end = std::min(rest_.find('\n'), rest_.size());
    *line = rest_.substr(0, end);
    if (line->ends_with('\r')) line->remove_suffix(1);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    ++number_;
    return true;
  }
  int64_t number() const { return number_; }

 private:
  std::string_view rest_;
  int64_t number_ = 0;
};

[[noreturn]] void RefuseLine(const std::string& where, int64_t line, const std::string& expected) {
  throw UserError({where, fmt::format("line {} is damaged", line), expected});
}

// Strict base64 (RFC 4648) with padding; false for anything else.
bool DecodeBase64(std::string_view text, std::string* bytes) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.empty() || text.size() % 4 != 0) return false;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  bytes->clear();
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t digit = i + padding < text.size() ? kDigits.find(text[i]) : 0;
    if (digit == std::string_view::npos) return false;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if (i % 4 != 3) continue;
    *bytes += {static_cast<char>(bits >> 16), static_cast<char>(bits >> 8), static_cast<char>(bits)};
  }
  for (size_t i = 0; i < padding; ++i) bytes->pop_back();
  return true;
}

// "TOKEN RANK"; false where the line is anything else.
bool ParseRankLine(std::string_view line, std::string* token, int64_t* rank) {
  const size_t space = line.find(' ');
  if (space == line.npos || !DecodeBase64(line.substr(0, space), token)) return false;
  const char* end = line.data() + line.size();
  const auto [stop, error] = std::from_chars(line.data() + space + 1, end, *rank);
  return error == std::errc() && stop == end;
}

std::vector<std::string> ReadRanks(std::string_view content, const std::string& where) {
  std::vector<std::string> tokens;
  Lines lines(content);
  std::string_view line;
  while (lines.Next(&line)) {
    std::string token;
    int64_t rank = 0;
    if (!ParseRankLine(line, &token, &rank)) RefuseLine(where, lines.number(), "a base64 token and its rank");
    if (rank != static_cast<int64_t>(tokens.size())) {
      throw UserError({where, fmt::format("line {}: ranks must rise by one from 0", lines.number()),
                       std::to_string(tokens.size()), std::to_string(rank)});
    }
    if (token.size() > Bpe::kMaxRankedToken) {
      RefuseLine(where, lines.number(), fmt::format("a token of at most {} bytes", Bpe::kMaxRankedToken));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// As LLaMA 3.1 names the ids behind the ranks; LLaMA 3 had reserved names for some of them.
std::string Llama3Special(size_t i) {
  static const std::vector<std::string> kNamed = {"<|begin_of_text|>",
                                                  "<|end_of_text|>",
                                                  "<|reserved_special_token_0|>",
                                                  "<|reserved_special_token_1|>",
                                                  "<|finetune_right_pad_id|>",
                                                  "<|reserved_special_token_2|>",
                                                  "<|start_header_id|>",
                                                  "<|end_header_id|>",
                                                  "<|eom_id|>",
                                                  "<|eot_id|>",
                                                  "<|python_tag|>"};
  return i < kNamed.size() ? kNamed[i] : fmt::format("<|reserved_special_token_{}|>", i - 8);
}

// vocab.json: {"token": id}.
std::vector<std::string> ReadVocabulary(const std::string& content, const std::string& path) {
  const Json json = ParseJson(content, path);
  if (!json.is_object() || json.empty()) {
    throw UserError({path, "is not a vocabulary", "an object of ids by token", DescribeJson(json)});
  }
  std::vector<std::string> tokens(json.size());
  std::vector<bool> seen(json.size(), false);
  for (const auto& [token, id] : json.items()) {
    const bool fits = id.is_number_integer() && id >= 0 && id < static_cast<int64_t>(tokens.size());
    if (!fits) {
      throw UserError({path, fmt::format("the id of {} is out of place", DescribeJson(token)),
                       fmt::format("0 to {}", tokens.size() - 1), DescribeJson(id)});
    }
    const auto i = id.get<size_t>();
    if (seen[i]) throw UserError(path, fmt::format("two tokens have the id {}", i));
    seen[i] = true;
    tokens[i] = token;
  }
  return tokens;
}

// The vocabulary with the tokens that the config adds or marks; the bytes of others are left to MergeList. What the
// config does not name is GPT-2's only special token.
BpeVocabulary WithAddedTokens(std::vector<std::string> spellings, TokenizerConfig config) {
  BpeVocabulary vocabulary;
  std::unordered_map<std::string, int32_t> ids;
  for (const std::string& spelling : spellings) {
    ids.try_emplace(spelling, static_cast<int32_t>(vocabulary.tokens.size()));
    vocabulary.tokens.push_back({spelling, "", Kind::kText});
  }
  for (const char* name : {"bos_token", "eos_token", "unk_token"}) {
    if (!config.special_tokens.try_emplace(name, kGpt2EndOfText).second) continue;
    config.named_tokens.push_back({.id = -1, .content = kGpt2EndOfText, .special = true, .normalized = false});
  }
  FileTokens file;
  file.find = [&](const std::string& content) {
    const auto it = ids.find(content);
    return it != ids.end() ? std::optional(it->second) : std::nullopt;
  };
  file.size = static_cast<int64_t>(spellings.size());
  file.keeps = [&](int32_t id) { return id < file.size; };  // merges know them by their spelling
  const std::vector<AddedToken> added = MergeAddedTokens(config, file);
  SetAddedTokens(added, vocabulary);
  for (const AddedToken& token : added) {
    if (token.content == config.special_tokens["bos_token"]) vocabulary.bos = token.id;
    if (token.content == config.special_tokens["eos_token"]) vocabulary.eos = token.id;
  }
  return vocabulary;
}

}  // namespace

Gpt2Files ReadGpt2Files(const NamedText& vocab, const NamedText& merges, const TokenizerConfig& config) {
  Gpt2Files files{WithAddedTokens(ReadVocabulary(vocab.content, vocab.path), config), {}};
  Lines lines(merges.content);
  std::string_view line;
  while (lines.Next(&line)) {
    const bool comment = lines.number() == 1 && line.starts_with("#version");
    if (!comment && !line.empty()) files.merges.push_back({line, lines.number()});
  }
  return files;
}

std::unique_ptr<Tokenizer> MakeGpt2Tokenizer(const NamedText& vocab, const NamedText& merges,
                                             const TokenizerConfig& config) {
  Gpt2Files files = ReadGpt2Files(vocab, merges, config);
  BpeVocabulary& vocabulary = files.vocabulary;
  MergeList list(vocabulary, vocab.path);
  for (const auto& [text, line] : files.merges) list.Add(text, fmt::format("{}, line {}", merges.path, line));
  vocabulary.patterns.emplace_back(kGpt2Pattern, vocab.path);
  vocabulary.add_bos = config.add_bos_token.value_or(false);
  vocabulary.add_eos = config.add_eos_token.value_or(false);
  vocabulary.add_space_prefix = config.add_prefix_space.value_or(false);
  Bpe bpe = list.Build(vocabulary, {});
  return MakeBpeTokenizer(std::move(vocabulary), std::move(bpe));
}

bool LooksLikeTiktoken(std::string_view content) {
  std::string_view line;
  std::string token;
  int64_t rank = 0;
  return Lines(content).Next(&line) && ParseRankLine(line, &token, &rank);
}

std::unique_ptr<Tokenizer> MakeTiktokenTokenizer(std::string_view content, const std::string& where,
                                                 const TokenizerConfig& config) {
  std::vector<std::string> tokens = ReadRanks(content, where);
  if (tokens.size() != kLlama3Ranks) {
    throw UserError({where, "a tiktoken file of an unknown kind: it holds neither word pattern nor special tokens",
                     fmt::format("{} ranks (LLaMA-3)", kLlama3Ranks), std::to_string(tokens.size())});
  }
  BpeVocabulary vocabulary;
  std::vector<int32_t> ranks;
  for (size_t i = 0; i < tokens.size(); ++i) {
    vocabulary.tokens.push_back({SpellBytes(tokens[i]), tokens[i], Kind::kText});
    ranks.push_back(static_cast<int32_t>(i));
  }
  FileTokens file;
  for (size_t i = 0; i < kLlama3Specials; ++i) {
    const auto id = static_cast<int32_t>(kLlama3Ranks + i);
    file.added.push_back({.id = id, .content = Llama3Special(i), .special = true, .normalized = false});
  }
  file.find = [&](const std::string& spelling) -> std::optional<int32_t> {
    const auto it = std::find(tokens.begin(), tokens.end(), spelling);
    return it != tokens.end() ? std::optional(static_cast<int32_t>(it - tokens.begin())) : std::nullopt;
  };
  file.size = kLlama3Ranks + kLlama3Specials;
  SetAddedTokens(MergeAddedTokens(config, file), vocabulary);
  tokens.resize(vocabulary.tokens.size());
  ranks.resize(vocabulary.tokens.size(), -1);
  vocabulary.bos = kLlama3Ranks;
  vocabulary.eos = kLlama3Ranks + 1;
  vocabulary.add_bos = config.add_bos_token.value_or(config.special_tokens.count("bos_token") != 0);
  vocabulary.add_eos = config.add_eos_token.value_or(false);
  vocabulary.patterns.emplace_back(kLlama3Pattern, where);
  Bpe bpe = Bpe::FromRanks(std::move(tokens), ranks, {.ignore_merges = true});
  return MakeBpeTokenizer(std::move(vocabulary), std::move(bpe));
}

}  // namespace taipan
