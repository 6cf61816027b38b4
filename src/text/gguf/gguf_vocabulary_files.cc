#include "text/gguf/gguf_vocabulary_files.h"

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/error.h"
#include "base/fields.h"
#include "text/gguf/gguf_pre_tokenization.h"
#include "text/sentencepiece/sentencepiece_model.h"
#include "text/sentencepiece/sentencepiece_tokenizer.h"
#include "text/tokenizer_json_write.h"
#include "text/unicode/utf8.h"
#include "text/unicode/word_pattern.h"

namespace taipan {
namespace {

using OrderedJson = nlohmann::ordered_json;
using Type = GgufVocabulary::Type;

AddedToken WithFlags(const GgufVocabulary& v, size_t id, bool special) {
  AddedToken token{.normalized = false};
  for (const AddedToken& flagged : v.flags) {
    if (flagged.id == static_cast<int32_t>(id)) token = flagged;
  }
  token.id = static_cast<int32_t>(id);
  token.content = v.tokens[id];
  token.special = special;
  return token;
}

// JSON holds Unicode text only.
void RequireUtf8(const std::string& text, const std::string& what, const std::string& where) {
  if (ValidUtf8Size(text) == text.size()) return;
  throw UserError({.where = where, .problem = what + " is not UTF-8", .found = DescribeJson(Json(ToValidUtf8(text)))});
}

// The patterns as Hugging Face's libraries usually say them.
OrderedJson PreTokenizerJson(const PreTokenization& pre, bool add_prefix_space) {
  OrderedJson steps = OrderedJson::array();
  bool words_at_last = false;
  for (const std::string_view pattern : pre.patterns) {
    words_at_last = pattern == kGpt2Pattern;
    if (pattern == R"(\p{N})") {
      steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
    } else {
      steps.push_back(
          {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
  }
  if (words_at_last) steps.erase(steps.size() - 1);
  steps.push_back(ByteLevelEntry(words_at_last));
  steps.back()["add_prefix_space"] = add_prefix_space;
  if (steps.size() == 1) return steps[0];
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

// BOS before and EOS behind a text, null without both.
OrderedJson PostProcessorJson(const GgufVocabulary& v, bool add_bos, bool add_eos) {
  const bool bos = add_bos && v.bos.has_value(), eos = add_eos && v.eos.has_value();
  if (!bos && !eos) return nullptr;
  OrderedJson special_tokens = OrderedJson::object();
  const auto special = [&](int32_t id) {
    const std::string& text = v.tokens[static_cast<size_t>(id)];
    special_tokens[text] = {{"id", text}, {"ids", OrderedJson::array({id})}, {"tokens", OrderedJson::array({text})}};
    return OrderedJson{{"SpecialToken", {{"id", text}, {"type_id", 0}}}};
  };
  const auto around = [&](const char* name) {
    OrderedJson list = OrderedJson::array();
    if (bos) list.push_back(special(*v.bos));
    list.push_back({{"Sequence", {{"id", name}, {"type_id", 0}}}});
    if (eos) list.push_back(special(*v.eos));
    return list;
  };
  OrderedJson single = around("A"), pair = single;
  for (const OrderedJson& item : around("B")) pair.push_back(item);
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special_tokens)}};
}

std::string ByteLevelFile(const GgufVocabulary& v, const std::string& where) {
  const PreTokenization& pre = FindPreTokenization(v.pre, where);
  ByteLevelBpeFile file;
  std::unordered_set<std::string_view> seen;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const std::string& token = v.tokens[i];
    const int type = v.type_of(i);
    const auto id = static_cast<int64_t>(i);
    if (type == Type::kUnused && token == fmt::format("[PAD{}]", i)) continue;
    RequireUtf8(token, fmt::format("token {}", i), where);
    if (token.empty() || !seen.insert(token).second) {
      throw UserError({where, "tokenizer.json cannot hold the vocabulary", "each token once, none of them empty",
                       fmt::format("token {}: {}", i, DescribeJson(Json(token)))});
    }
    file.vocab.emplace_back(token, id);
    const bool special = type == Type::kControl || type == Type::kUnknown;
    if (special || type == Type::kUserDefined) file.added.push_back(WithFlags(v, i, special));
  }
  file.merges = v.merges;
  file.pre_tokenizer = PreTokenizerJson(pre, v.space_prefix == "each");
  file.post_processor = PostProcessorJson(v, v.add_bos.value_or(pre.add_bos), v.add_eos.value_or(false));
  file.ignore_merges = pre.ignore_merges;
  return WriteTokenizerJson(std::move(file));
}

std::string SentencePieceFile(const GgufVocabulary& v, const std::string& where) {
  SentencePieceModel model;
  model.add_dummy_prefix = v.add_space_prefix.value_or(true);
  model.remove_extra_whitespaces = false;
  model.algorithm = SentencePieceModel::kBpe;
  SentencePieceIds ids{.bos = v.bos.value_or(-1), .eos = v.eos.value_or(-1)};
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    RequireUtf8(v.tokens[i], fmt::format("token {}", i), where);
    model.pieces.push_back({v.tokens[i], v.scores[i], v.type_of(i)});  // the numbers of the types are the same
    if (v.type_of(i) == Type::kByte) model.byte_fallback = true;
    if (v.type_of(i) == Type::kUnknown) ids.unk = static_cast<int32_t>(i);
  }
  std::string content = WriteSentencePieceModel(model, ids);
  MakeSentencePieceTokenizer(content, where, {});  // refuses what the library does
  return content;
}

// The tokens of which the SentencePiece file does not say all: text that llama.cpp cuts out as it does special tokens,
// and tokens with flags.
OrderedJson AddedTokensDecoder(const GgufVocabulary& v) {
  OrderedJson decoder = OrderedJson::object();
  std::unordered_set<int32_t> flagged;
  for (const AddedToken& token : v.flags) flagged.insert(token.id);
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const int type = v.type_of(i);
    if (type != Type::kUserDefined && flagged.count(static_cast<int32_t>(i)) == 0) continue;
    decoder[std::to_string(i)] = AddedTokenJson(WithFlags(v, i, type == Type::kControl || type == Type::kUnknown));
    decoder[std::to_string(i)].erase("id");
  }
  return decoder;
}

std::string ConfigFile(const GgufVocabulary& v, bool add_bos, const std::string& where) {
  OrderedJson config = {{"add_bos_token", add_bos}, {"add_eos_token", v.add_eos.value_or(false)}};
  for (const auto& [name, text] : SpecialTokenTexts(v)) config[name] = text;
  config["clean_up_tokenization_spaces"] = false;
  config["tokenizer_class"] = v.model == "llama" ? "LlamaTokenizer" : "PreTrainedTokenizerFast";
  if (v.model == "llama") {
    config["add_prefix_space"] = v.add_space_prefix.value_or(true);
    config["legacy"] = v.space_prefix != "first";
    const OrderedJson added = AddedTokensDecoder(v);
    if (!added.empty()) config["added_tokens_decoder"] = added;
  }
  if (!v.chat_template.empty()) {
    RequireUtf8(v.chat_template, "tokenizer.chat_template", where);
    config["chat_template"] = v.chat_template;
  }
  return config.dump(2) + "\n";
}

}  // namespace

std::vector<std::pair<std::string, std::string>> TokenizerFiles(const GgufVocabulary& v, const std::string& where) {
  MakeGgufTokenizer(v, where);  // refuses what is damaged
  std::vector<std::pair<std::string, std::string>> files;
  const bool llama = v.model == "llama";
  const bool add_bos = v.add_bos.value_or(llama || FindPreTokenization(v.pre, where).add_bos);
  if (llama) {
    files.emplace_back("tokenizer.model", SentencePieceFile(v, where));
  } else {
    files.emplace_back("tokenizer.json", ByteLevelFile(v, where));
  }
  files.emplace_back("tokenizer_config.json", ConfigFile(v, add_bos, where));
  if ((v.eot.has_value() && v.eot != v.eos) || !v.stops.empty()) {
    OrderedJson ends = OrderedJson::array();
    if (v.eos.has_value()) ends.push_back(*v.eos);
    if (v.eot.has_value() && v.eot != v.eos) ends.push_back(*v.eot);
    for (const int32_t id : v.stops) ends.push_back(id);
    files.emplace_back("generation_config.json", OrderedJson({{"eos_token_id", ends}}).dump(2) + "\n");
  }
  return files;
}

}  // namespace taipan
