#pragma once
// Documents to token ids, with the weight that each token has in the loss.

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace taipan {

struct EncodedDocument {
  std::vector<int32_t> ids;
  std::vector<float> weights;  // a token each; empty: all 1
};

// The ids of a text, those of its whole: a long one is cut where the tokenizer allows it and encoded in pieces side by
// side.
std::vector<int32_t> EncodeParallel(const Tokenizer& tokenizer, std::string_view text);

class DocumentEncoder {
 public:
  // What it is given must outlive it. eos: behind every document, none: nothing. chat: for "messages"; null: there is
  // no template.
  DocumentEncoder(const Tokenizer& tokenizer, std::optional<int32_t> eos, const ChatTemplate* chat)
      : tokenizer_(tokenizer), eos_(eos), chat_(chat) {}

  // No ids for an empty text.
  EncodedDocument Text(std::string_view text) const;
  // {"text": ..., "loss_mask": [[begin, end], ...], "loss_weight": 1} or {"messages": [...], "loss_weight": 1}, see
  // docs/data.md. UserError naming `where` and the key.
  EncodedDocument Object(const nlohmann::json& object, const std::string& where) const;

 private:
  // A text, and the bytes of it that carry the loss, in order and apart.
  struct Marked {
    std::string text;
    std::vector<std::array<size_t, 2>> spans = {};
    bool parse_special = false;
  };
  Marked MarkMessages(const nlohmann::json& object, const std::string& where) const;
  EncodedDocument EncodeMarked(const Marked& marked, float weight) const;

  const Tokenizer& tokenizer_;
  std::optional<int32_t> eos_;
  const ChatTemplate* chat_;
};

}  // namespace taipan
