#include "data/encode_document.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "data/json_texts.h"
#include "text/jinja/value.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

using Span = std::array<size_t, 2>;

// Where characters begin: byte offsets, the end of the text behind them.
std::vector<size_t> Characters(std::string_view text) {
  std::vector<size_t> begins;
  for (size_t at = 0; at < text.size(); at += std::max<size_t>(1, Utf8CharacterSize(text.substr(at)))) {
    begins.push_back(at);
  }
  begins.push_back(text.size());
  return begins;
}

// "loss_mask": [[begin, end], ...] in characters.
std::vector<Span> ReadMask(const nlohmann::json& mask, std::string_view text, const std::string& where) {
  const std::vector<size_t> characters = Characters(text);
  const std::string expected =
      fmt::format("[[begin, end], ...] in characters, rising, up to {}", characters.size() - 1);
  const auto refuse = [&](const nlohmann::json& found) {
    throw UserError({where, "\"loss_mask\" holds no spans of the text", expected, found.dump()});
  };
  if (!mask.is_array()) refuse(mask);
  std::vector<Span> spans;
  int64_t last = 0;
  for (const nlohmann::json& span : mask) {
    const bool pair = span.is_array() && span.size() == 2 && span[0].is_number_integer() && span[1].is_number_integer();
    if (!pair) refuse(span);
    const auto begin = span[0].get<int64_t>(), end = span[1].get<int64_t>();
    if (begin < last || end < begin || end >= static_cast<int64_t>(characters.size())) refuse(span);
    if (end > begin) {
      spans.push_back({characters[static_cast<size_t>(begin)], characters[static_cast<size_t>(end)]});
    }
    last = end;
  }
  return spans;
}

float ReadWeight(const nlohmann::json& object, const char* key, const std::string& where) {
  if (!object.contains(key)) return 1;
  const nlohmann::json& value = object[key];
  const double weight = value.is_number() ? value.get<double>() : -1;
  if (weight >= 0 && weight <= 1e6) return static_cast<float>(weight);
  throw UserError({where, fmt::format("\"{}\" is no weight", key), "a number from 0 to 1000000", value.dump()});
}

}  // namespace

std::vector<int32_t> EncodeParallel(const Tokenizer& tokenizer, std::string_view text) {
  constexpr size_t kPiece = size_t{1} << 18;  // bytes
  std::vector<std::string_view> pieces;
  while (text.size() > 2 * kPiece) {
    size_t cut = 0;
    for (size_t seen = kPiece; cut == 0 && seen < text.size(); seen *= 2) {
      cut = tokenizer.CutIn(text.substr(0, seen), {.begins = pieces.empty(), .ends = false});
    }
    if (cut == 0) break;
    pieces.push_back(text.substr(0, cut));
    text.remove_prefix(cut);
  }
  pieces.push_back(text);
  std::vector<std::vector<int32_t>> encoded(pieces.size());
  ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    encoded[at] = tokenizer.Encode(pieces[at], {.begins = at == 0, .ends = at + 1 == pieces.size()});
  });
  for (size_t i = 1; i < encoded.size(); ++i) {
    encoded[0].insert(encoded[0].end(), encoded[i].begin(), encoded[i].end());
    std::vector<int32_t>().swap(encoded[i]);
  }
  return std::move(encoded[0]);
}

EncodedDocument DocumentEncoder::Text(std::string_view text) const {
  EncodedDocument document;
  if (text.empty()) return document;
  document.ids = EncodeParallel(tokenizer_, text);
  if (eos_) document.ids.push_back(*eos_);
  return document;
}

EncodedDocument DocumentEncoder::Object(const nlohmann::json& object, const std::string& where) const {
  if (object.is_object() && !object.contains("text") && object.contains("messages")) {
    return EncodeMarked(MarkMessages(object, where), ReadWeight(object, "loss_weight", where));
  }
  const std::string& text = TextOf(object, where);
  const float weight = ReadWeight(object, "loss_weight", where);
  if (!object.contains("loss_mask") && weight == 1) return Text(text);
  Marked marked;
  marked.text = text;
  marked.spans =
      object.contains("loss_mask") ? ReadMask(object["loss_mask"], text, where) : std::vector<Span>{{0, text.size()}};
  return EncodeMarked(marked, weight);
}

// The answers: what the template adds for a message of the assistant behind where an answer begins.
DocumentEncoder::Marked DocumentEncoder::MarkMessages(const nlohmann::json& object, const std::string& where) const {
  const nlohmann::json& messages = object["messages"];
  if (!messages.is_array() || messages.empty()) {
    throw UserError({where, "\"messages\" is no list of messages", R"([{"role": "user", "content": "..."}, ...])",
                     messages.dump().substr(0, 60)});
  }
  if (chat_ == nullptr) {
    throw UserError({.where = where,
                     .problem = "messages need a chat template and the tokenizer has none",
                     .hint = "tokenizer_config.json or chat_template.jinja beside the tokenizer holds one"});
  }
  const auto render = [&](size_t count, bool prompt) {
    const nlohmann::json first(
        nlohmann::json::array_t(messages.begin(), messages.begin() + static_cast<ptrdiff_t>(count)));
    ChatInput input;
    input.messages = jinja::ParseValue(first.dump(), where);
    if (object.contains("tools")) input.tools = jinja::ParseValue(object["tools"].dump(), where);
    input.add_generation_prompt = prompt;
    return chat_->Render(std::move(input));
  };
  Marked marked{.text = render(messages.size(), false), .spans = {}, .parse_special = true};
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object() || !messages[i].contains("role") || messages[i]["role"] != "assistant") continue;
    const std::string before = render(i, true), after = render(i + 1, false);
    if (!after.starts_with(before) || !marked.text.starts_with(after)) {
      throw UserError({where,
                       fmt::format("the chat template changes earlier text, so answer {} cannot be told apart", i + 1),
                       "a template that only adds to what it wrote", "another"});
    }
    size_t end = after.size();
    while (end > before.size() && (after[end - 1] == '\n' || after[end - 1] == ' ')) --end;
    if (end > before.size()) marked.spans.push_back({before.size(), end});
  }
  return marked;
}

// Each stretch of the text is encoded by itself, as a prompt and its answer are.
EncodedDocument DocumentEncoder::EncodeMarked(const Marked& marked, float weight) const {
  EncodedDocument document;
  if (marked.text.empty()) return document;
  size_t at = 0;
  const auto add = [&](size_t end, float w) {
    if (end == at) return;
    const std::vector<int32_t> ids = tokenizer_.Encode(
        std::string_view(marked.text).substr(at, end - at),
        {.parse_special = marked.parse_special, .begins = at == 0, .ends = end == marked.text.size()});
    document.ids.insert(document.ids.end(), ids.begin(), ids.end());
    document.weights.resize(document.ids.size(), w);
    at = end;
  };
  for (const Span& span : marked.spans) {
    add(span[0], 0);
    add(span[1], weight);
  }
  const bool whole = marked.text.find_first_not_of("\n ", at) == std::string::npos && !marked.spans.empty();
  add(marked.text.size(), 0);
  const bool has_end = marked.parse_special && eos_ && std::count(document.ids.begin(), document.ids.end(), *eos_) > 0;
  if (eos_ && !has_end) {
    document.ids.push_back(*eos_);
    document.weights.push_back(whole ? weight : 0);
  }
  return document;
}

}  // namespace taipan
