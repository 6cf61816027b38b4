#pragma once
// What a model's files say about text: tokenizer, tokens that end an answer, chat template.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "text/tokenizer.h"

namespace taipan {

struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;  // null where the files have none
  std::vector<int32_t> stop_tokens;      // each ends an answer
  std::string chat_template;             // Jinja, "" where there is none (text/chat_template.h)
  std::string chat_template_file;
  std::string no_chat_template;  // why what the files have cannot be used, "" for nothing
  std::string problems;          // what of optional files was left out, for a remark; "" for nothing
  std::map<std::string, std::string> special_tokens;  // "bos_token", ...: their texts, for the template
};

// Of a model, or of `tokenizer` instead: "byte", a tokenizer file or folder, or a path that leads to another model
// (model/model_path.h). UserError for files that are damaged or of a kind that is not supported, and for a tokenizer
// with more tokens than the model.
ModelText LoadModelText(const Checkpoint& model, const std::string& tokenizer = "");

// The tokenizer alone, of anything that may be named as one; null for a folder or .gguf file without any.
std::unique_ptr<Tokenizer> LoadAnyTokenizer(const std::string& path);

}  // namespace taipan
